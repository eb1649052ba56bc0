"""Whether a run can be what its config says, before anything of it is written: data, probes, and room on the disk."""

import shutil
from contextlib import suppress
from pathlib import Path

from induction_bump.config.errors import ConfigError
from induction_bump.data.corpus import Corpus
from induction_bump.measures.probes import ProbeError, Probes
from induction_bump.model.size import parameter_count
from induction_bump.records.directory import RunDirectory
from induction_bump.training.options import RunConfig

_PAGE_BYTES = 10_000_000
_STEP_BYTES = 3 * 40
"""A training row: in its part file, compacted, and mirrored."""
_SCALAR_ROWS = 30
_HEAD_MEASURES = 24
_PAIR_KINDS = 3
_ABLATION_KINDS = 3
_QUANTITIES = 4
_ROW_BYTES = 2 * 24
"""A row of a snapshot's table, with its compacted copy; measured rows take less."""
_CHECKPOINTS = 3
"""The last two, and the one that is being written."""
_FILES_BYTES = 5 * 8_000
"""Schemas and metadata of a snapshot's files."""


def hashes(config: RunConfig, corpus: Corpus) -> dict[str, str]:
    """Of what the run reads: corpus, tokenizer, probes. Raises ConfigError for a probe that cannot be drawn."""
    try:
        probes = Probes.draw(corpus, config.data.context, config.measures)
        return {"corpus": corpus.fingerprint, "tokenizer": corpus.tokenizer_hash, **probes.hashes}
    except ProbeError as error:
        raise ConfigError(str(error)) from None


def check_room(needed: int, directory: Path) -> None:
    """Raises ConfigError where the disk of `directory` has less room than the bytes that are needed."""
    there = shutil.disk_usage(_existing(directory)).free
    if needed > there:
        raise ConfigError(
            f"paths.runs: about {needed / 1e6:,.0f} MB will be written and {there / 1e6:,.0f} MB are free; "
            f"thin out snapshots.weights, or set snapshots.save_weights=false"
        )


def still_to_write(run: RunDirectory, forecast: int) -> int:
    """Bytes of a forecast that the run's directory does not hold yet."""
    written = 0
    for file in run.path.rglob("*") if run.exists else ():
        with suppress(FileNotFoundError):  # another process may be writing the run
            written += file.stat().st_size if file.is_file() else 0
    return max(0, forecast - written)


def forecast(config: RunConfig, vocab_size: int) -> int:
    """Bytes that the run's directory will hold, estimated from above."""
    weights = config.weight_schedule()
    kept = len(weights) if weights else 0
    context, held_out, model = config.data.context, config.measures.held_out.examples, config.model
    heads = model.n_attention * model.n_heads
    rows = _SCALAR_ROWS + context + 3 * held_out + _HEAD_MEASURES * heads
    snapshot = rows * _ROW_BYTES + _FILES_BYTES
    ablated = _ABLATION_KINDS * heads * (_QUANTITIES + min(held_out, config.measures.causal.examples))
    expensive = (ablated + (_PAIR_KINDS + 2) * heads**2 + 2 * heads) * _ROW_BYTES + _FILES_BYTES
    parameters = 4 * parameter_count(model, vocab_size, context)
    return (
        (kept + _CHECKPOINTS * 3) * parameters  # a checkpoint holds two moments beside each
        + len(config.measure_schedule()) * snapshot
        + len(config.expensive_schedule() or ()) * expensive
        + config.total_steps * _STEP_BYTES
        + _PAGE_BYTES
    )


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
