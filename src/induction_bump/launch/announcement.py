"""What is said of a run when it starts: how long it is, where the bump is to be expected, and which runs it is not."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from induction_bump.config.errors import ConfigError
from induction_bump.config.identity import canonical, slug
from induction_bump.config.resolve import load
from induction_bump.data.errors import CorpusError
from induction_bump.launch import resume
from induction_bump.launch.job import Job
from induction_bump.linking.expected import expected_tokens, length_past
from induction_bump.locate.formats import format_tokens
from induction_bump.records.directory import RunDirectory
from induction_bump.records.schema import RecordsError
from induction_bump.training.options import RunConfig

_SHOWN = 4


def announcement(config: RunConfig, job: Job, in_sweep: bool = False) -> Iterator[str]:
    """The lines: one or two of each run of a sweep, and advice besides for a run on its own."""
    run = RunDirectory(job.path)
    first, differs = resume.foretell(run, job)
    length = f"{config.total_steps} steps, {_millions(_total(config))} tokens"
    start = f", continues after step {first}" if first is not None else ""
    early = ", before a bump on text is to be expected" if in_sweep and _ends_before_the_bump(config) else ""
    page = f"; to watch it, open {run.path / 'report.html'}" if config.report.live else ""
    yield f"{run.name}: {length}{start}{early}{page}"
    if differs:
        yield f"{run.name}: its numbers will not be exactly those of an uninterrupted run: {'; '.join(differs)}"
    if not in_sweep:
        if expected := _expected(config):
            yield f"{run.name}: {_advice(config, expected)}"
        if not run.exists and (other := namesake(config, job)):
            yield f"{run.name}: {other}"


def _total(config: RunConfig) -> int:
    return config.total_steps * config.tokens_per_step


def _expected(config: RunConfig) -> float | None:
    """Tokens to the bump; None on corpora that the law is not of, and for models that have none."""
    model = config.model
    able = model.n_attention > 1 or (model.n_attention == 1 and model.smeared_keys)
    return (
        expected_tokens(config.training.batch_sequences, config.data.context) if config.data.is_text and able else None
    )


def _ends_before_the_bump(config: RunConfig) -> bool:
    return _total(config) < (_expected(config) or 0)


def _advice(config: RunConfig, expected: float) -> str:
    law = f"10^5.7 · √({config.training.batch_sequences} × {config.data.context}), Aoyama et al. 2025, on natural text"
    said = f"expect the bump at about {format_tokens(expected)} tokens ({law})"
    if not _ends_before_the_bump(config):
        return said
    enough = f"training.length={length_past(expected)}"
    return f"{said}; this training ends at {format_tokens(_total(config), 3)}: {enough} would reach it"


def namesake(config: RunConfig, job: Job) -> str | None:
    """Which other run of the study has the run's name, and in what it differs; the one that differs least."""
    own = _flat(json.loads(canonical(config, job.fingerprint)))
    found: list[tuple[int, Path, list[str]]] = []
    for file in sorted(Path(job.path).parent.glob("*/run.json")):
        other = RunDirectory(file.parent)
        try:
            if other.info.name != slug(config) or other.info.run_id == job.run_id:
                continue
            theirs = _flat(json.loads(canonical(load(other.config), other.info.hashes.get("corpus", ""))))
        except (RecordsError, ConfigError, CorpusError):
            continue  # what is wrong with it is told where it is used
        keys = sorted(key for key in own.keys() | theirs.keys() if own.get(key) != theirs.get(key))
        found.append((len(keys), other.path, keys))
    if not found:
        return None
    _, path, keys = min(found)
    shown = ", ".join(keys[:_SHOWN]) + (", …" if len(keys) > _SHOWN else "")
    return f"another run of this name is there: {path}; it differs in {shown or 'what no option tells'}"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys; the hash of what a corpus holds under `data.corpus (content)`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat["data.corpus (content)" if f"{prefix}{key}" == "data.corpus.content" else f"{prefix}{key}"] = value
    return flat


def _millions(tokens: int) -> str:
    return f"{tokens / 1e6:.2f}M"
