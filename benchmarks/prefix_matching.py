"""Prefix-matching scores as this project reads them, beside TransformerLens's way: the cache of whole patterns.

    pip install -c constraints.txt -e '.[transformer-lens]' && python benchmarks/prefix_matching.py

A model of 2 layers (d_model 768, 12 heads, rotary) reads BOS and a random block twice. The same weights are in both
libraries, exported as `bump export` does. Ways to the scores of every head:

- ours: `measures.reading.read` with the lookup of a repeat probe, which reads one entry a query, head and layer;
- cache: `run_with_cache`, then the mean of each pattern's diagonal;
- cache of patterns: the same where only patterns are cached and no logits are asked for.

Each way has a process of its own, in turns. Memory is the growth of the largest resident size from just before the
first pass over the batch, time that of a second pass. The scores must agree to 1e-4.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from induction_bump.measures.heads import repeat_lookup
from induction_bump.measures.reading import read
from induction_bump.model.options import ModelOptions
from induction_bump.model.transformer import Transformer
from induction_bump.model.transformer_lens import config_of, state_dict_of
from induction_bump.training.weights import load_weights, save_weights

WAYS = ("ours", "cache", "cache of patterns")
BATCH = {512: 16, 2048: 4}
VOCABULARY = 2048
OPTIONS = ModelOptions(sublayers="ss", d_model=768, n_heads=12)

Scores = Callable[[torch.Tensor], torch.Tensor]
"""From tokens N × (1 + 2 · block) to the mean score of every head, layers × H."""


def write_model(directory: Path, context: int) -> None:
    """The same weights for both libraries."""
    from safetensors.torch import save_file

    model = Transformer(OPTIONS, VOCABULARY, context)
    save_weights(model, directory / "weights.safetensors")
    save_file(state_dict_of(model), directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(config_of(OPTIONS, VOCABULARY, context)))


def tokens_of(context: int, batch: int) -> torch.Tensor:
    """BOS (0), a block of other tokens, and the block again."""
    block = torch.from_numpy(np.random.default_rng(0).integers(1, VOCABULARY, (batch, (context - 1) // 2)))
    return torch.cat([torch.zeros(batch, 1, dtype=torch.long), block, block], dim=1)


def ours(directory: Path, context: int) -> Scores:
    model = Transformer(OPTIONS, VOCABULARY, context).eval()
    load_weights(model, directory / "weights.safetensors")

    def scores(tokens: torch.Tensor) -> torch.Tensor:
        blocks = torch.full((len(tokens),), tokens.shape[1] // 2)
        lookup = repeat_lookup(blocks, 2, tokens > 0)
        found = read(model, tokens.numpy(), lookup, losses=False).scores["prefix_matching"]
        return torch.from_numpy(found).mean(0)

    return scores


def bridge(directory: Path) -> Any:
    """The exported model in TransformerLens 4."""
    from safetensors.torch import load_file
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.conversion_utils import convert_tl_checkpoint
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.model_bridge.sources import native as native  # gives the bridge `boot_native`

    config = TransformerBridgeConfig.from_dict(json.loads((directory / "config.json").read_text()))
    model = TransformerBridge.boot_native(config)
    model.load_state_dict(convert_tl_checkpoint(load_file(directory / "model.safetensors"), config))
    return model


def hooked(directory: Path) -> Any:
    """The exported model in earlier versions."""
    from safetensors.torch import load_file
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    config = json.loads((directory / "config.json").read_text()) | {"device": "cpu"}
    model = HookedTransformer(HookedTransformerConfig.from_dict(config))
    model.load_state_dict(load_file(directory / "model.safetensors"), strict=False)
    return model


def theirs(directory: Path, only_patterns: bool) -> Scores:
    load = hooked if version("transformer-lens") < "4" else bridge
    model = load(directory).eval()
    chosen = {"names_filter": lambda name: name.endswith("hook_pattern"), "return_type": None} if only_patterns else {}

    def scores(tokens: torch.Tensor) -> torch.Tensor:
        _, cache = model.run_with_cache(tokens, **chosen)
        back = tokens.shape[1] // 2 - 1
        # the diagonal starts at query block − 1, the second copy at block + 1
        stripes = [cache["pattern", layer].diagonal(-back, dim1=-2, dim2=-1)[..., 2:] for layer in range(2)]
        return torch.stack([stripe.mean((0, 2)) for stripe in stripes])

    return scores


@torch.no_grad()
def measure(way: str, context: int, directory: Path) -> dict[str, object]:
    """Seconds, MiB and scores, in this process."""
    scores = ours(directory, context) if way == "ours" else theirs(directory, way == "cache of patterns")
    scores(tokens_of(17, 1))  # libraries allocate their buffers at the first call
    tokens = tokens_of(context, BATCH[context])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = scores(tokens)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    began = time.perf_counter()
    scores(tokens)
    return {"seconds": time.perf_counter() - began, "mib": grown, "scores": found.tolist()}


def compared(context: int, rounds: int) -> str:
    """One row of the table."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    mib: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as directory:
        write_model(Path(directory), context)
        for _ in range(rounds):
            scores = {}
            for way in WAYS:
                command = [sys.executable, "-W", "ignore", __file__, "--one", way, str(context), directory]
                done = json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
                seconds[way].append(done["seconds"])
                mib[way].append(done["mib"])
                scores[way] = np.array(done["scores"])
            for way in WAYS[1:]:
                np.testing.assert_allclose(scores[way], scores["ours"], atol=1e-4)
    time_of = {way: statistics.median(values) for way, values in seconds.items()}
    peak_of = {way: statistics.median(values) for way, values in mib.items()}
    cells = [f"{time_of[way]:.2f} s, {peak_of[way]:,.0f} MiB" for way in WAYS]
    ratios = [f"{time_of[way] / time_of['ours']:.1f} ×, {peak_of[way] / peak_of['ours']:.1f} ×" for way in WAYS[1:]]
    return f"| {context} | {BATCH[context]} | {' | '.join([*cells, *ratios])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", type=int, nargs="+", default=list(BATCH), choices=list(BATCH))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        way, context, directory = arguments.one
        print(json.dumps(measure(way, int(context), Path(directory))))
        return
    print(
        f"transformer-lens {version('transformer-lens')}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    print()
    print("| context | batch | ours | cache | cache of patterns | cache / ours | cache of patterns / ours |")
    print("|---|---|---|---|---|---|---|")
    for context in arguments.contexts:
        print(compared(context, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
