"""Speed of the head measures and of ablations, on a 2-layer, 8-head model.

    python benchmarks/measures.py [--rounds 5]

Head measures: all of copying, attention and weights, on the probes of measures=short_context. Ablations: every head,
`zero` and `pattern_preserving`, on 512 windows of 256 tokens, beside the ideal: one intact pass, and for every head and
kind one plain pass of the sublayers that lie after it with the losses (of the last layer one for both kinds, which are
the same there), from residual streams that are already there.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch

from induction_bump.data.corpus import prepare
from induction_bump.data.options import DataOptions, RepeatsOptions
from induction_bump.measures.ablation import ablate, every_head
from induction_bump.measures.batches import batches
from induction_bump.measures.options import HeldOutOptions, IclOptions, MeasureOptions, RepeatsProbeOptions
from induction_bump.measures.probes import Probes
from induction_bump.measures.reading import read, token_losses
from induction_bump.measures.registry import MEASURES
from induction_bump.measures.take import take
from induction_bump.model.options import ModelOptions
from induction_bump.model.transformer import Transformer

CONTEXT, SHORT, VOCABULARY, WINDOWS = 256, 128, 512, 512
KINDS = ("zero", "pattern_preserving")

HEAD_MEASURES = frozenset(
    name for name, m in MEASURES.items() if m.table in ("heads", "head_pairs") and name not in ("first_token",)
) | {"copy_advantage", "ordered_copy_advantage"}


def seconds(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


@torch.no_grad()
def ideal(model: Transformer, tokens: np.ndarray) -> None:
    """What no ablation can do without."""
    layers = list(model.attention_sublayers())
    heads = model.options.n_heads
    for windows in batches(model, tokens):
        x = model.embed(windows[:, :-1])
        starts = [model.run(x, stop=layer.sublayer + 1) for layer in layers]
        token_losses(model, model.run(starts[-1], start=layers[-1].sublayer + 1), windows[:, 1:])
        for layer, start in zip(layers, starts, strict=True):
            kinds = 1 if layer is layers[-1] else len(KINDS)
            for _ in range(heads * kinds):
                token_losses(model, model.run(start, start=layer.sublayer + 1), windows[:, 1:])


def two_layers(d_model: int, context: int) -> Transformer:
    return Transformer(ModelOptions(sublayers="ss", d_model=d_model, n_heads=8), VOCABULARY, context).eval()


def head_measures(model: Transformer, probes: Probes, options: MeasureOptions, rounds: int) -> str:
    def everything() -> None:
        take(model, probes, options, HEAD_MEASURES)

    everything()  # baselines of composition are kept
    whole = statistics.median(seconds(everything) for _ in range(rounds))
    plain = statistics.median(seconds(lambda: read(model, probes.held_out.tokens)) for _ in range(rounds))
    return f"{whole:.2f} | {plain:.2f}"


def ablations(model: Transformer, tokens: np.ndarray, rounds: int) -> str:
    ours, least = [], []
    for _ in range(rounds):
        ours.append(seconds(lambda: ablate(model, tokens, every_head(model), KINDS)))
        least.append(seconds(lambda: ideal(model, tokens)))
    ratio = statistics.median(a / b for a, b in zip(ours, least, strict=True))
    return f"{statistics.median(ours):.1f} | {statistics.median(least):.1f} | {ratio:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    data = DataOptions(corpus=RepeatsOptions(vocab_size=VOCABULARY), context=CONTEXT)
    corpus = prepare(data, Path(mkdtemp()))
    options = MeasureOptions(
        icl=IclOptions(early=8, late=SHORT, window=32),
        held_out=HeldOutOptions(examples=256),
        repeats=RepeatsProbeOptions(sequences=64),
    )
    probes = Probes.draw(corpus, SHORT, options)
    print("| model (2 layers, 8 heads, context 128) | all head measures, s | plain pass over their held-out probe, s |")
    print("|---|---|---|")
    for d_model in (128, 256):
        print(
            f"| d_model {d_model} | {head_measures(two_layers(d_model, SHORT), probes, options, rounds)} |", flush=True
        )
    print("\n| model (2 layers, 8 heads, context 256) | ablations, s | ideal, s | ratio |")
    print("|---|---|---|---|")
    tokens = corpus.held_out(WINDOWS, CONTEXT, 0).tokens
    for d_model in (128, 256):
        print(
            f"| d_model {d_model} | {ablations(two_layers(d_model, CONTEXT), tokens, max(2, rounds // 2))} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
