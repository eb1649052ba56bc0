"""The time of the bump of each run, one kind of statement for all runs that are compared.

See docs/linking.md#runs-are-the-unit.

An event bounds a time between two snapshots; a phase change gives an estimate with an interval. They differ by
definition, so one comparison never mixes them.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from induction_bump.locate.sighting import Sightings
from induction_bump.records.load import Records

CHANGES = {"icl": "icl_change", "prefix_matching": "prefix_matching_change", "copy_advantage": "copy_advantage_change"}
"""Event → the phase change of the same quantity."""
Source = Literal["change", "event"]
State = Literal["located", "before", "after", "undefined"]
"""What is known of a time:

| state | meaning | low | high | estimate |
|---|---|---|---|---|
| `located` | an event is in (low, high]; of a change these are the ends of its 90 % interval | ≥ 0 | > low | within |
| `before` | it had happened at the first snapshot | 0 | 0 | – |
| `after` | censored: not up to low, the last that is known of the run | last | ∞ | – |
| `undefined` | this run cannot have it, or was not asked | – | – | – |
"""
COLUMNS = ["run_id", "event", "source", "state", "low", "high", "estimate", "end"]


def event_times(records: Records, event: str = "icl", source: Source | None = None) -> pd.DataFrame:
    """One row a run: run_id, event, source, state, low, high, estimate, end of the training (tokens).

    source: which statement is read. By default the phase change, where it was located in every run in which the event
    was; otherwise the event, for all runs. Where a run has no located change, its event says whether the time is
    censored or undefined.
    """
    located = records.phase_changes
    events = by_run(located.query("event == @event"))
    changes = by_run(located.query(f"event == '{CHANGES.get(event)}' and found"))
    if source is None:
        crossed = {run_id for run_id, row in events.items() if row["verdict"] == "found"}
        source = "change" if crossed and crossed <= changes.keys() else "event"
    rows = []
    for run in records.runs.to_dict("records"):
        run_id, end = str(run["run_id"]), float(run["total_tokens"])
        change = changes.get(run_id) if source == "change" else None
        if change is not None:
            known = _located(change["ci_low"], change["ci_high"], change["tokens_estimate"])
        else:
            known = _of_event(events.get(run_id), end, source)
        rows.append({"run_id": run_id, "event": event, "source": source, **known, "end": end})
    return pd.DataFrame(rows, columns=COLUMNS)


def sightings(times: pd.DataFrame) -> Sightings:
    """Rows of `event_times` whose state is not `undefined` as a likelihood reads them.

    A change is placed, with the error that its interval tells of, and certainly within its training.
    """
    low, high, end = (times[name].to_numpy(np.float64) for name in ("low", "high", "end"))
    placed = (times["state"] == "located").to_numpy() & (times["source"] == "change").to_numpy()
    interval = (np.where(placed, low, np.nan), np.where(placed, high, np.nan))
    return Sightings.of_tokens(np.where(placed, 0, low), np.where(placed, end, high), interval)


def by_run(rows: pd.DataFrame) -> dict[str, dict[Any, Any]]:
    """run_id → row, of rows of which each run has one."""
    return {str(row["run_id"]): row for row in rows.to_dict("records")}


def _of_event(event: Mapping[Any, Any] | None, end: float, source: Source) -> dict[str, str | float]:
    """What an event says; `end` is the length of the training, in tokens."""
    undefined: dict[str, str | float] = {"state": "undefined", "low": np.nan, "high": np.nan, "estimate": np.nan}
    if event is None or event["verdict"] == "not_applicable":
        return undefined
    if event["verdict"] == "left_censored":
        return {"state": "before", "low": 0.0, "high": 0.0, "estimate": np.nan}
    if event["verdict"] == "found":
        # where changes are asked for, this run has one that could not be located
        if source == "change":
            return undefined
        return _located(event["tokens_low"], event["tokens_high"], event["tokens_estimate"])
    known = event["tokens_low"]
    last = end if event["verdict"] == "not_found" else 0.0 if pd.isna(known) else float(known)
    return {"state": "after", "low": last, "high": np.inf, "estimate": np.nan}


def _located(low: float, high: float, estimate: float) -> dict[str, str | float]:
    return {"state": "located", "low": float(low), "high": float(high), "estimate": float(estimate)}
