"""Located events with made-up intervals, as `bump locate` would leave them beside made-up runs."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from induction_bump.records.directory import RunDirectory
from induction_bump.records.schema import PHASE_CHANGES

EVENTS = ("previous_token", "prefix_matching", "prefix_matching_strong", "copy_advantage", "icl")


def event(
    run: Path, name: str, verdict: str, low: int | None = None, high: int | None = None, **more: Any
) -> dict[str, Any]:
    """A row of `phase_changes`."""
    info = RunDirectory(run).info
    row: dict[str, Any] = dict.fromkeys(PHASE_CHANGES.names)
    known = {"run_id": info.run_id, "run": run.name, "event": name, "found": verdict in ("found", "left_censored")}
    known |= {"tokens_estimate": (low * high) ** 0.5 if low and high else high}
    return row | known | {"tokens_low": low, "tokens_high": high, "verdict": verdict, "rule": f"rule of {name}"} | more


def bump_between(run: Path, low: int, high: int) -> list[dict[str, Any]]:
    """All events of a run, found in one interval."""
    return [event(run, name, "found", low, high, value_before=0.05, value_after=0.4) for name in EVENTS]


def silence(run: Path) -> list[dict[str, Any]]:
    """The events of a run that has none."""
    return [event(run, name, "not_applicable" if name == "previous_token" else "not_found") for name in EVENTS]


def store(directory: Path, rows: list[dict[str, Any]]) -> None:
    """Write `<directory>/phase_changes.parquet`."""
    pq.write_table(pa.Table.from_pylist(rows, schema=PHASE_CHANGES), directory / "phase_changes.parquet")
