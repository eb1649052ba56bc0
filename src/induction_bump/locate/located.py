"""What was located in a run or a study: the objects that tables, text and summary are made from."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa

from induction_bump.locate import tables, text
from induction_bump.locate.cell import Cell, fit_cell
from induction_bump.locate.changes import LOSS_BUMP, LocatedChange
from induction_bump.locate.events import EVENTS, Event
from induction_bump.locate.further import FURTHER
from induction_bump.locate.sighting import Sighting
from induction_bump.model.options import ModelOptions
from induction_bump.records.cells import cells
from induction_bump.records.directory import RunDirectory
from induction_bump.records.files import made
from induction_bump.records.load import Records
from induction_bump.records.schema import RecordsError


@dataclass(frozen=True)
class LocatedRun:
    """The events of one run, and its changes where they were looked for."""

    run: RunDirectory
    run_id: str
    status: str
    model: ModelOptions
    tokens: int
    """At the last snapshot."""
    events: tuple[Event, ...]
    changes: tuple[LocatedChange, ...] = ()

    def event(self, name: str) -> Event:
        """The event called `name`."""
        return next(e for e in self.events if e.name == name)

    def change(self, name: str) -> LocatedChange | None:
        """The change whose event is called `name`; None where changes were not looked for."""
        return next((c for c in self.changes if c.event == name), None)

    @property
    def phase_change_rows(self) -> Iterator[tables.Row]:
        """Its rows of PHASE_CHANGES."""
        yield from (tables.event_row(self.run_id, self.run.name, event) for event in self.events)
        yield from (tables.change_event_row(self.run_id, self.run.name, change) for change in self.changes)

    @property
    def change_rows(self) -> Iterator[tables.Row]:
        """Its rows of CHANGES."""
        yield from (tables.change_row(self.run_id, self.run.name, change) for change in self.changes)

    def sighting(self, name: str) -> Sighting | None:
        """What the run says about the time of an event or change; None where it does not have what it is asked about.

        A change is placed at its midpoint, and certainly within the training. A run without it says that it was not
        until its last snapshot; one whose records leave it open says nothing of the time.
        """
        change = self.change(name)
        if change is not None:
            return self._sighting_of_change(change)
        event = next((e for e in self.events if e.name == name), None)
        return None if event is None else self._sighting_of_event(event)

    def _sighting_of_change(self, change: LocatedChange) -> Sighting | None:
        if change.verdict == "not_applicable":
            return None
        place = change.change and change.change.place
        if change.found and place:
            return Sighting(high=self.tokens, placed=(place.midpoint.low, place.midpoint.high))
        return Sighting(self.tokens if change.verdict == "none" else 0)

    def _sighting_of_event(self, event: Event) -> Sighting | None:
        match event.verdict:
            case "not_applicable":
                return None
            case "left_censored":
                return Sighting(0, event.interval[1].tokens)
            case "found":
                low, high = event.interval
                return Sighting(low.tokens, high.tokens)
            case "not_found":
                return Sighting(self.tokens)
            case _:
                return Sighting(event.low.tokens if event.low else 0)


@dataclass(frozen=True)
class Located:
    """What `locate` found."""

    path: Path
    runs: tuple[LocatedRun, ...]
    unreadable: tuple[tuple[RunDirectory, RecordsError], ...] = ()
    """Runs of the study whose records cannot be read, with the reason; nothing is said about their events."""

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row an event or change and run, with the columns of `records.schema.PHASE_CHANGES`."""
        return _phase_changes(self.runs).to_pandas()

    @cached_property
    def changes(self) -> pd.DataFrame:
        """One row a change and run, with the columns of `records.schema.CHANGES`."""
        return _changes(self.runs).to_pandas()

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The time of each event and change over the seeds of each cell that has several runs."""
        return tuple(self._cells())

    def _cells(self) -> Iterator[Cell]:
        if not self.runs:
            return
        by_id = {run.run_id: run for run in self.runs}
        # the loss bump has no place, and further changes are told only of runs that have them
        changes = dict.fromkeys(change.event for run in self.runs for change in run.changes)
        placeable = [event for event in changes if event not in (LOSS_BUMP, *FURTHER)]
        grouped = cells(Records(self.path, [run.run for run in self.runs]).runs)
        for name in grouped.names:
            for event in (*EVENTS, *placeable):
                sightings = [by_id[run_id].sighting(event) for run_id in grouped.runs(name)]
                if len(sightings) > 1 and any(s is not None for s in sightings):
                    # a run that is too short for a change, in a cell that can have it, leaves it open too
                    yield fit_cell(name, event, [Sighting() if s is None else s for s in sightings])

    def text(self) -> str:
        """The same, to be read: a block a run, a line an event or change; then, of a study, a line a cell and event."""
        blocks = [text.block(r.run.name, r.status, r.tokens, r.events, r.changes) for r in self.runs]
        return "\n\n".join([*blocks, *([text.cell_block(self.cells)] if self.cells else [])])

    def write(self, directory: Path | None = None) -> None:
        """Write phase_changes and, where changes were looked for, changes and cells at the path; Parquet and CSV each.

        For a study, each run's own rows also go to the run's directory. With `directory`, all goes there and nowhere
        else. Raises OSError where it cannot be written to.
        """
        where = self.path if directory is None else made(directory)
        _write(where, self.runs)
        if self.cells:
            tables.write(where, "cells", tables.cells(map(tables.cell_row, self.cells)))
        for run in self.runs:
            if directory is None and run.run.path != self.path:
                _write(run.run.path, (run,))


def _phase_changes(runs: tuple[LocatedRun, ...]) -> pa.Table:
    return tables.phase_changes(row for run in runs for row in run.phase_change_rows)


def _changes(runs: tuple[LocatedRun, ...]) -> pa.Table:
    return tables.changes(row for run in runs for row in run.change_rows)


def _write(directory: Path, runs: tuple[LocatedRun, ...]) -> None:
    tables.write(directory, "phase_changes", _phase_changes(runs))
    if any(run.changes for run in runs):
        tables.write(directory, "changes", _changes(runs))
