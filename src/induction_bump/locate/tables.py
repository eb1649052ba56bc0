"""Events, changes and cells as rows of the tables that `bump locate` writes (records/schema.py)."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from induction_bump.locate.cell import Cell
from induction_bump.locate.changes import LocatedChange
from induction_bump.locate.events import Event
from induction_bump.locate.placing import Range
from induction_bump.records.files import replace_atomically
from induction_bump.records.schema import CELLS, CHANGES, PHASE_CHANGES

Row = dict[str, Any]
"""A row by column."""


def _told(run_id: str, run: str, name: str, what: Event | LocatedChange) -> Row:
    """What rows of PHASE_CHANGES share."""
    low, high = what.low, what.high
    return {
        "run_id": run_id,
        "run": run,
        "event": name,
        "found": what.found,
        "step_low": low and low.step,
        "step_high": high and high.step,
        "tokens_low": low and low.tokens,
        "tokens_high": high and high.tokens,
        "verdict": what.verdict,
        "rule": what.rule,
    }


def event_row(run_id: str, run: str, event: Event) -> Row:
    """A row of PHASE_CHANGES: an event between two snapshots."""
    low, high = event.low, event.high
    return _told(run_id, run, event.name, event) | {
        "tokens_estimate": high and _between(low.tokens if low else 0, high.tokens),
        "ci_low": low and float(low.tokens),
        "ci_high": high and float(high.tokens),
        "value_before": event.before,
        "value_after": event.after,
    }


def change_event_row(run_id: str, run: str, located: LocatedChange) -> Row:
    """A row of PHASE_CHANGES: a change from its onset to its end, with the midpoint as estimate."""
    low, high, place = located.low, located.high, located.change and located.change.place
    row = _told(run_id, run, located.event, located)
    if place and located.found:
        row |= {
            "tokens_estimate": place.midpoint.value,
            "ci_low": place.midpoint.low,
            "ci_high": place.midpoint.high,
            "value_before": place.value_before,
            "value_after": place.value_after,
        }
    elif located.bump and low and high:
        row |= {
            "tokens_estimate": float(located.bump.tokens),
            "ci_low": float(low.tokens),
            "ci_high": float(high.tokens),
            "value_before": located.bump.value_before,
            "value_after": located.bump.value_after,
        }
    return row


def change_row(run_id: str, run: str, located: LocatedChange) -> Row:
    """A row of CHANGES."""
    row: Row = {
        "run_id": run_id,
        "run": run,
        "event": located.event,
        "quantity": located.quantity or None,
        "verdict": located.verdict,
        "rule": located.rule,
    }
    if located.bump:
        return row | {"p": located.bump.p, "drop": located.bump.height, "model": "convex"}
    change = located.change
    if change is None:
        return row
    row |= {"p": change.p, "model": change.drift, "most_drop": change.most_drop, "snapshots": change.n}
    place = change.place
    if place is None:
        return row
    ranges = {name: getattr(place, name) for name in ("onset", "midpoint", "end", "width", "drop", "share")}
    for name, interval in ranges.items():
        row |= _columns(name, interval)
    drifts = ", relaxing after it" if place.relaxing else ", drifts wander" if place.wandering else ""
    corners = ["sharp" if not rounding else f"rounded {rounding:g}" for rounding in place.corners]
    return row | {
        "value_before": place.value_before,
        "value_after": place.value_after,
        "model": f"ramp, onset {corners[0]}, end {corners[1]}{drifts}; against {change.drift}",
        "phi": place.phi,
        "jitter": place.jitter,
        "wandering": place.wandering,
    }


def _columns(name: str, interval: Range | None) -> dict[str, float | None]:
    if interval is None:
        return {}
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def cell_row(cell: Cell) -> Row:
    """A row of CELLS."""
    return {
        "cell": cell.cell,
        "event": cell.event,
        "runs": cell.n,
        "found": cell.found,
        "undetermined": cell.undetermined,
        "median": cell.median,
        "median_low": cell.low,
        "median_high": cell.high,
        "cv": cell.cv,
        "cv_low": cell.cv_low,
        "cv_high": cell.cv_high,
        "rule": cell.rule,
    }


def _between(low: int, high: int) -> float:
    """The middle of an interval on a logarithmic axis; its upper end where it starts at 0."""
    return math.sqrt(low * high) if low else float(high)


def phase_changes(rows: Iterable[Row]) -> pa.Table:
    """Rows of events and changes as a table."""
    return pa.Table.from_pylist(list(rows), schema=PHASE_CHANGES)


def changes(rows: Iterable[Row]) -> pa.Table:
    """Rows of changes as a table."""
    return pa.Table.from_pylist(list(rows), schema=CHANGES)


def cells(rows: Iterable[Row]) -> pa.Table:
    """Rows of cells as a table."""
    return pa.Table.from_pylist(list(rows), schema=CELLS)


def write(directory: Path, name: str, table: pa.Table) -> None:
    """Write `<name>.parquet` and `.csv`, each whole or not at all."""
    replace_atomically(directory / f"{name}.parquet", lambda p: pq.write_table(table, p))
    replace_atomically(directory / f"{name}.csv", lambda p: pyarrow.csv.write_csv(table, p))
