"""Small trainings for tests."""

from pathlib import Path
from typing import Any

from induction_bump.options import parse
from induction_bump.records.directory import RunDirectory
from induction_bump.training.options import RunConfig
from tests.records.make import info_of

BASE: dict[str, Any] = {
    "model": {"sublayers": "ss", "d_model": 16, "n_heads": 2},
    "data": {"context": 32, "corpus": {"name": "repeats", "vocab_size": 64, "first_copy": 12, "segment": [4, 8]}},
    "training": {"length": "8step", "batch_sequences": 8, "learning_rate": 0.01, "warmup": "2step"},
    "snapshots": {"measures": {"at": ["3step"]}},
    "measures": {
        "icl": {"early": 2, "late": 32, "window": 8},
        "held_out": {"examples": 8},
        "repeats": {"sequences": 4, "quantiles": [0.0, 1.0]},
        "null": {"initialisations": 10, "examples": 2},
        "ngrams": {"tokens": 2000, "held_out": 8},
    },
    "devices": {"accelerator": "cpu"},
}
FEW_NGRAMS = "measures.ngrams.tokens=10000"
"""For a training by command, which otherwise spends most of its time on counting them."""


def config_of(cache: Path, **changes: dict[str, Any]) -> RunConfig:
    """The base config with some keys of some sections changed."""
    sections = {name: {**BASE.get(name, {}), **changes.get(name, {})} for name in {*BASE, *changes}}
    return parse(RunConfig, {**sections, "paths": {"cache": str(cache)}})


def begin(directory: Path, config: RunConfig) -> RunDirectory:
    """A run directory in which training can start."""
    from induction_bump.config.resolve import dump

    run = RunDirectory(directory)
    context = config.data.context
    info = info_of("0123456789", "study", "run", config.tokens_per_step, config.total_steps, context, 8, None)
    run.begin(dump(config), info)
    return run
