"""How the runs of a study are doing, read from their records alone, whoever computes them and wherever."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.compute as pc

from induction_bump.records.derived import read_phase_changes
from induction_bump.records.directory import RunDirectory, find_runs
from induction_bump.records.schema import RecordsError, RunInfo

METADATA = ".sweep"
"""Directory in a study that holds what its sweeps were to run, one file a sweep."""

_RECENT_STEPS = 100
_STATES = ("finished", "running", "preempted", "interrupted", "failed", "unreadable", "waiting")


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
    overrides: str = ""
    """In which of its sweep's values it differs from other cells."""


def status(path: Path) -> list[Standing]:
    """The run at `path`, or every run of the study there and every cell of its sweeps that has not begun.

    What cannot be read is a row that says so, and hides nothing else. Raises RecordsError where there is no row.
    """
    planned, unreadable = _cells(path)
    try:
        begun = [_standing(run) for run in find_runs(path)]
    except RecordsError:
        if not planned and not unreadable:
            raise
        begun = []
    names = {each.run for each in begun}
    begun = [replace(each, overrides=planned[each.run].overrides) if each.run in planned else each for each in begun]
    return [*begun, *(cell for name, cell in planned.items() if name not in names), *unreadable]


def summary(rows: Sequence[Standing]) -> str:
    """How many runs are in each state, such as `2 finished, 1 running, 3 waiting`."""
    counts = Counter(row.state for row in rows)
    return ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state])


def table(rows: Sequence[Standing]) -> str:
    """The rows as aligned text, with the message of each failed run below."""
    heads = ("run", "state", "step", "tokens/s", "left", "last event", "overrides")
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


def _cells(path: Path) -> tuple[dict[str, Standing], list[Standing]]:
    """Every cell that the study's sweeps were to run, as one that waits, by directory name; and what is unreadable."""
    cells: dict[str, Standing] = {}
    unreadable: list[Standing] = []
    for file in sorted((path / METADATA).glob("*.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            given = {str(cell["run"]): (int(cell["total_steps"]), list(cell["overrides"])) for cell in content["cells"]}
            shared = set.intersection(*(set(overrides) for _, overrides in given.values())) if given else set()
            for run, (steps, overrides) in given.items():
                differs = " ".join(each for each in overrides if each not in shared)
                cells[run] = Standing(run, "waiting", 0, steps, overrides=differs)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"{file}: not the plan of a sweep ({type(error).__name__}: {error})"
            unreadable.append(Standing(f"{METADATA}/{file.name}", "unreadable", 0, 0, message=reason))
    return cells, unreadable


def _cells_of(row: Standing) -> tuple[str, ...]:
    speed = f"{row.tokens_per_second:,.0f}" if row.tokens_per_second else ""
    step, left = f"{row.step}/{row.total_steps}", _duration(row.seconds_left)
    return row.run, row.state, step, speed, left, row.last_event or "", row.overrides


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
