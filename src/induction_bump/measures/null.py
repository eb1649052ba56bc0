"""null99: what the best of a model's heads scores before it has learned anything."""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from induction_bump.data.cache import read_json, write_json
from induction_bump.measures.options import NullOptions
from induction_bump.measures.probes import Probes
from induction_bump.measures.ranks import ALONE, Ranks
from induction_bump.measures.reading import read
from induction_bump.measures.registry import VERSIONS
from induction_bump.model import init
from induction_bump.model.clamps import free_heads
from induction_bump.model.options import ModelOptions
from induction_bump.model.transformer import Transformer

SCORES = ("prefix_matching", "previous_token")


def null99(
    model: ModelOptions,
    vocab_size: int,
    context: int,
    probes: Probes,
    options: NullOptions,
    cache: Path,
    device: torch.device | str = "cpu",
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """99th percentile, over fresh initialisations, of the maximum over heads: score → value; {} without heads.

    Heads with a clamp do not count: what they score is the clamp's doing, trained or not.
    Computed once per architecture, probe and number of initialisations, and kept in the `cache` of rank 0, which alone
    decides whether it is there: caches of several machines may differ. Each of `ranks` takes some of the
    initialisations.
    """
    if not free_heads(model):
        return {}
    versions = {name: VERSIONS[name] for name in (*SCORES, "null99")}
    read_on = [probes.held_out.hash, probes.repeats.hash]
    key = [asdict(model), init.VERSION, vocab_size, context, read_on, asdict(options), versions]
    path = cache / "nulls" / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]}.json"

    def maxima(here: slice) -> dict[str, npt.NDArray[np.float64]]:
        numbers = range(options.initialisations)[here]
        return {"": np.array([_maxima(model, vocab_size, context, probes, options, i, device) for i in numbers])}

    with ranks.failing_together():
        known = ranks.from_first(lambda: read_json(path))
        if known is not None:
            return known
        found = ranks.whole(options.initialisations, maxima)[""]
        values = {name: float(v) for name, v in zip(SCORES, np.quantile(found, 0.99, axis=0), strict=True)}
        if ranks.rank == 0:
            with suppress(OSError):  # a cache that cannot be written costs time, not the run
                write_json(path, values)
    return values


def _maxima(
    model: ModelOptions,
    vocab_size: int,
    context: int,
    probes: Probes,
    options: NullOptions,
    number: int,
    device: torch.device | str,
) -> list[float]:
    fresh = Transformer(model, vocab_size, context, seed=options.seed + number).eval().to(device)
    n = options.examples
    repeats = read(fresh, probes.repeats.tokens[:n], probes.repeats.lookup, losses=False).scores
    text = read(fresh, probes.held_out.tokens[:n], probes.held_out.lookup, losses=False).scores
    layers, heads = zip(*free_heads(model), strict=True)
    return [
        float(scores[name].mean(0)[layers, heads].max()) for name, scores in zip(SCORES, (repeats, text), strict=True)
    ]
