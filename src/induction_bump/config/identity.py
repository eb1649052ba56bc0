"""What makes two runs the same run: the scientific part of a config, hashed, and a name that people can read."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from induction_bump.config.resolve import dump
from induction_bump.data.fingerprint import tokenizer_fingerprint
from induction_bump.options import without_neutral
from induction_bump.training.options import RunConfig, ScheduleOptions

NEUTRAL: Mapping[str, Any] = {
    "model.clamps": [],
    "snapshots.expensive": None,
    "measures.copying": {"sequences": 64, "tokens": 25, "seed": 4004},
    "measures.ngrams": {"tokens": 20_000_000, "held_out": 256, "seed": 5005},
    "measures.causal": {"examples": 512, "path_examples": 128, "group_seed": 6006, "draws": 20},
    "measures.expensive": [
        "composition_q",
        "composition_k",
        "composition_v",
        "zero_ablation",
        "pattern_preserving_ablation",
        "path_order",
    ],
}
"""Options that were added after runs existed, by dotted key, with the value at which a run is what it was without them.

An option at its neutral value is left out of the hash, so that old ids stay what they are; the order of the lines does
not matter. Those of a corpus belong into `data.fingerprint.NEUTRAL`: its content's hash stands for them.
"""

_PART = ("model", "data", "training", "seed", "snapshots", "measures")
_DIGITS = 10


def run_id(config: RunConfig, corpus_fingerprint: str) -> str:
    """Ten hexadecimal digits that depend on what is computed and not on where.

    `corpus_fingerprint` stands for the corpus's content and options, whatever its files are called. Raises CorpusError
    for a missing tokenizer file.
    """
    return hashlib.sha256(canonical(config, corpus_fingerprint).encode()).hexdigest()[:_DIGITS]


def canonical(config: RunConfig, corpus_fingerprint: str, neutral: Mapping[str, Any] = NEUTRAL) -> str:
    """The scientific part as JSON: keys sorted, floats as `repr`, durations in steps, derived values written out."""
    values = dump(config)
    part = {key: values[key] for key in _PART}
    part["model"] |= {"d_head": config.model.width_of_head, "d_mlp": config.model.width_of_mlp}
    part["data"] = _data(config, part["data"], corpus_fingerprint)
    per_step = config.tokens_per_step
    part["training"] |= {
        "length": config.total_steps,
        "warmup": config.training.warmup.steps(per_step),
    }
    snapshots = config.snapshots
    weights = (snapshots.weights or snapshots.measures) if snapshots.save_weights else None
    rest = {key: value for key, value in part["snapshots"].items() if key != "save_weights"}
    part["snapshots"] = rest | {
        "measures": _schedule(snapshots.measures, per_step),
        "expensive": _schedule(snapshots.expensive, per_step) if snapshots.expensive else None,
        "weights": _schedule(weights, per_step) if weights else None,
    }
    return json.dumps(
        without_neutral(part, neutral), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def slug(config: RunConfig) -> str:
    """A readable name, such as `2L-attn-rotary-d64-h4-s0`; `config.name` where that is set."""
    return config.name or "-".join(_describe(config))


def directory_name(config: RunConfig, identity: str) -> str:
    """Name of the run's directory below its study."""
    return f"{slug(config)}-{identity}"


def _describe(config: RunConfig) -> Iterator[str]:
    model, order = config.model, config.model.sublayers
    depth = model.n_attention
    if order == "s" * depth:
        yield f"{depth}L" + ("-attn" if depth else "")
    elif order == "sf" * depth:
        yield f"{depth}L-mlp"
    else:
        yield order
    if depth and model.smeared_keys:
        yield "smeared"
    if model.positions == "learned" or (depth and model.positions != "none"):
        yield model.positions
    yield f"d{model.d_model}"
    if depth:
        yield f"h{model.n_heads}"
    yield f"s{config.seed.init}"
    if config.seed.data:
        yield f"data{config.seed.data}"


def _data(config: RunConfig, values: dict[str, Any], fingerprint: str) -> dict[str, Any]:
    text = config.data.is_text
    del values["held_out_by"]  # the fingerprint stands for it, whether it was decided or said
    return values | {
        "corpus": {"name": config.data.corpus.name, "content": fingerprint},
        # Synthetic corpora have no tokenizer and hold nothing out: these options do nothing there.
        "tokenizer": tokenizer_fingerprint(config.data.tokenizer) if text else None,
        "held_out_share": values["held_out_share"] if text else None,
    }


def _schedule(options: ScheduleOptions, per_step: int) -> dict[str, Any]:
    return {
        "log": [options.log.start.steps(per_step), options.log.count] if options.log else None,
        "every": options.every.steps(per_step) if options.every else None,
        "at": sorted({moment.steps(per_step) for moment in options.at}),
    }
