"""How the runs of a study are doing, read from their records alone, whoever computes them and wherever."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from induction_bump.records.derived import read_phase_changes
from induction_bump.records.directory import RunDirectory, find_runs
from induction_bump.records.schema import RecordsError, RunInfo

METADATA = ".sweep"
"""Directory in a study that holds what its sweeps were to run, one file a sweep."""

_RECENT_STEPS = 100


@dataclass(frozen=True)
class Standing:
    """One run of a study."""

    run: str
    """Name of its directory."""
    state: str
    """running, interrupted, finished, preempted, failed, unreadable, or waiting: part of a sweep and not begun."""
    step: int
    total_steps: int
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    """Of a running one, at its recent speed."""
    last_event: str | None = None
    """The latest event that `bump locate` found, with the tokens at which it was complete."""
    message: str | None = None
    """Why it failed or cannot be read."""


def status(path: Path) -> list[Standing]:
    """The run at `path`, or every run of the study there and every cell of its sweeps that has not begun.

    What cannot be read is a row that says so, and hides nothing else. Raises RecordsError where there is no row.
    """
    waiting, unreadable = _cells(path)
    try:
        begun = [_standing(run) for run in find_runs(path)]
    except RecordsError:
        if not waiting and not unreadable:
            raise
        begun = []
    names = {each.run for each in begun}
    begun += [Standing(name, "waiting", 0, total) for name, total in waiting.items() if name not in names]
    return begun + unreadable


def table(rows: Sequence[Standing]) -> str:
    """The rows as aligned text, with the message of each failed run below."""
    heads = ("run", "state", "step", "tokens/s", "left", "last event")
    cells = [heads, *(_cells_of(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([*lines, *(f"{row.run}: {row.message}" for row in rows if row.message)])


def _standing(run: RunDirectory) -> Standing:
    try:
        info, state = run.info, run.status
        step, speed = _progress(run)
    except RecordsError as error:
        return Standing(run.name, "unreadable", 0, 0, message=str(error))
    left = None
    if state == "running" and speed:
        left = (info.total_steps - step) * info.tokens_per_step / speed
    return Standing(run.name, state, step, info.total_steps, speed, left, _last_event(run, info), info.message)


def _progress(run: RunDirectory) -> tuple[int, float | None]:
    """The last committed step, and the median of the recent tokens per second."""
    try:
        training = run.table("training")
    except RecordsError:  # a run that starts again removes its files, perhaps between our listing and reading them
        training = run.table("training")
    if not training.num_rows:
        return 0, None
    recent = training.slice(max(0, training.num_rows - _RECENT_STEPS))
    speed = pc.quantile(recent.column("tokens_per_second"), 0.5)[0].as_py()  # type: ignore[attr-defined]
    return training.column("step")[-1].as_py(), speed


def _last_event(run: RunDirectory, info: RunInfo) -> str | None:
    for path in (run.path / "phase_changes.parquet", run.path.parent / "phase_changes.parquet"):
        if path.is_file():
            try:
                rows = read_phase_changes(path).to_pylist()
            except RecordsError:
                continue
            found = [row for row in rows if row["found"] and row["run_id"] == info.run_id]
            if found:
                last = max(found, key=lambda row: row["tokens_high"] or 0)
                return f"{last['event']} at {(last['tokens_high'] or 0) / 1e6:.2f}M tokens"
    return None


def _cells(path: Path) -> tuple[dict[str, int], list[Standing]]:
    """Directory name and length in steps of every cell that the study's sweeps were to run, and what is unreadable."""
    cells: dict[str, int] = {}
    unreadable: list[Standing] = []
    for file in sorted((path / METADATA).glob("*.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            cells |= {str(cell["run"]): int(cell["total_steps"]) for cell in content["cells"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"{file}: not the plan of a sweep ({type(error).__name__}: {error})"
            unreadable.append(Standing(f"{METADATA}/{file.name}", "unreadable", 0, 0, message=reason))
    return cells, unreadable


def _cells_of(row: Standing) -> tuple[str, ...]:
    speed = f"{row.tokens_per_second:,.0f}" if row.tokens_per_second else ""
    return row.run, row.state, f"{row.step}/{row.total_steps}", speed, _duration(row.seconds_left), row.last_event or ""


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
