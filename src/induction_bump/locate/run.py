"""`locate(path)`: the events of a run or of all runs of a study, as a table for programs and as text for people."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from induction_bump.locate.events import Event, find_events
from induction_bump.locate.formats import format_interval, format_tokens
from induction_bump.model.options import ModelOptions
from induction_bump.records.directory import RunDirectory, find_runs
from induction_bump.records.files import replace_atomically
from induction_bump.records.schema import PHASE_CHANGES, RecordsError

_MOST_HEADS = 4
"""Heads named in the text; the rest are counted."""


@dataclass(frozen=True)
class LocatedRun:
    """The events of one run."""

    run: RunDirectory
    run_id: str
    status: str
    model: ModelOptions
    tokens: int
    """At the last snapshot."""
    events: tuple[Event, ...]

    def event(self, name: str) -> Event:
        """The event called `name`."""
        return next(e for e in self.events if e.name == name)


@dataclass(frozen=True)
class Located:
    """What `locate` found."""

    path: Path
    runs: tuple[LocatedRun, ...]
    unreadable: tuple[tuple[RunDirectory, RecordsError], ...] = ()
    """Runs of the study whose records cannot be read, with the reason; nothing is said about their events."""

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row an event and run, with the columns of `records.schema.PHASE_CHANGES`."""
        return _rows(self.runs).to_pandas()

    def text(self) -> str:
        """The same, to be read: a block a run, a line an event."""
        return "\n\n".join(_block(located) for located in self.runs)

    def write(self) -> None:
        """Write phase_changes.parquet and .csv at the path, and, for a study, in each run's directory too."""
        for located in self.runs:
            if located.run.path != self.path:
                _write(located.run.path, _rows([located]))
        _write(self.path, _rows(self.runs))


def locate(path: Path | str) -> Located:
    """Find the events of the run or study at `path` and write them there as phase_changes.parquet and .csv.

    A run that is still going is read up to its last snapshot. One of a study that cannot be read is left out, and named
    in what is returned. Raises RecordsError where `path` is neither a run nor a study, or none of its runs can be read,
    and OSError where it cannot be written to.
    """
    located = find(path)
    located.write()
    return located


def find(path: Path | str) -> Located:
    """The same as `locate`, without writing anything."""
    located: list[LocatedRun] = []
    unreadable: list[tuple[RunDirectory, RecordsError]] = []
    for run in find_runs(path):
        try:
            located.append(_locate_run(run))
        except RecordsError as error:
            unreadable.append((run, error))
    if not located:
        raise unreadable[0][1]
    return Located(Path(path), tuple(located), tuple(unreadable))


def _locate_run(run: RunDirectory) -> LocatedRun:
    snapshots = run.snapshots()
    tokens = snapshots[-1].tokens if snapshots else 0
    model = run.typed(ModelOptions, "model")
    return LocatedRun(run, run.info.run_id, run.status, model, tokens, tuple(find_events(run)))


def _rows(runs: Iterable[LocatedRun]) -> pa.Table:
    return pa.Table.from_pylist([_row(r, e) for r in runs for e in r.events], schema=PHASE_CHANGES)


def _row(located: LocatedRun, event: Event) -> dict[str, Any]:
    low, high = event.low, event.high
    return {
        "run_id": located.run_id,
        "run": located.run.name,
        "event": event.name,
        "found": event.found,
        "step_low": low and low.step,
        "step_high": high and high.step,
        "tokens_low": low and low.tokens,
        "tokens_high": high and high.tokens,
        "tokens_estimate": high and _between(low.tokens if low else 0, high.tokens),
        "ci_low": low and float(low.tokens),
        "ci_high": high and float(high.tokens),
        "value_before": event.before,
        "value_after": event.after,
        "verdict": event.verdict,
        "rule": event.rule,
    }


def _between(low: int, high: int) -> float:
    """The middle of an interval on a logarithmic axis; its upper end where it starts at 0."""
    return math.sqrt(low * high) if low else float(high)


def _write(directory: Path, table: pa.Table) -> None:
    replace_atomically(directory / "phase_changes.parquet", lambda p: pq.write_table(table, p))
    replace_atomically(directory / "phase_changes.csv", lambda p: pyarrow.csv.write_csv(table, p))


def _block(located: LocatedRun) -> str:
    lines = [("event", "verdict", "tokens", "value", "heads"), *(_line(e) for e in located.events)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rows = ("  " + "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)
    head = f"{located.run.name} ({located.status}, {format_tokens(located.tokens, 3)} tokens)"
    return "\n".join([head, *rows])


def _line(event: Event) -> tuple[str, str, str, str, str]:
    last = event.rule if event.verdict == "not_applicable" else describe_heads(event, _MOST_HEADS)
    return event.name, event.verdict.replace("_", " "), describe_interval(event), _describe_values(event), last


def describe_interval(event: Event) -> str:
    """When it happened, in words and tokens."""
    if event.verdict == "left_censored":
        return "before training"
    if event.low and event.high:
        return format_interval(event.low.tokens, event.high.tokens)
    if event.low:
        return f"after {format_tokens(event.low.tokens)}"
    return "–"


def _describe_values(event: Event) -> str:
    if event.after is None:
        return "–"
    return f"{event.after:.2f}" if event.before is None else f"{event.before:.2f} → {event.after:.2f}"


def describe_heads(event: Event, most: int, what: str = "") -> str:
    """The heads that carry an event, best first: `L1H0 0.02 → 0.84`; with `what`, `L1H0 (what 0.02 → 0.84)`."""
    shown = [(h.name, f"{h.before:.2f} → {h.after:.2f}") for h in event.heads[:most]]
    parts = [f"{name} ({what} {scores})" if what else f"{name} {scores}" for name, scores in shown]
    more = len(event.heads) - most
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")
