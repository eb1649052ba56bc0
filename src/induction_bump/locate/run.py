"""`locate(path)`: find the events and phase changes of a run, or of all runs of a study, and write them there."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from induction_bump.locate.changes import find_changes
from induction_bump.locate.events import find_events
from induction_bump.locate.located import Located, LocatedRun
from induction_bump.model.options import ModelOptions
from induction_bump.pools import process_pool
from induction_bump.records.directory import RunDirectory, find_runs
from induction_bump.records.schema import RecordsError


def locate(path: Path | str, *, changes: bool = True, processes: int = 1) -> Located:
    """Find the events and phase changes of the run or study at `path` and write them there.

    A run that is still going is read up to its last snapshot. One of a study that cannot be read is left out, and named
    in what is returned. changes: whether phase changes, which take seconds a run, are looked for, or events alone;
    processes: how many runs are read at a time, each in a process of its own if more than one.
    Raises RecordsError where `path` is neither a run nor a study, or none of its runs can be read, WorkerLostError
    where a process that reads one is lost, and OSError where `path` cannot be written to.
    """
    located = find(path, changes=changes, processes=processes)
    located.write()
    return located


def find(path: Path | str, *, changes: bool = False, processes: int = 1) -> Located:
    """The same as `locate`, without writing anything, and of events alone if not asked for more."""
    runs = find_runs(path)
    found = list(_locate_each(runs, changes, min(processes, len(runs))))
    located = tuple(outcome for outcome in found if isinstance(outcome, LocatedRun))
    unreadable = tuple((r, o) for r, o in zip(runs, found, strict=True) if isinstance(o, RecordsError))
    if not located:
        raise unreadable[0][1]
    return Located(Path(path), located, unreadable)


def _locate_each(runs: Sequence[RunDirectory], changes: bool, processes: int) -> Iterator[LocatedRun | RecordsError]:
    locate_one = partial(_locate_run, changes=changes)
    if processes < 2:
        yield from map(locate_one, runs)
        return
    with process_pool(processes, "locates") as pool:
        yield from pool.map(locate_one, runs)


def _locate_run(run: RunDirectory, changes: bool) -> LocatedRun | RecordsError:
    try:
        run.check()
        # of the tables: copied records may lack the directories of their snapshots
        measured = run.table("scalars", columns=["tokens"]).column("tokens").to_numpy()
        tokens = int(measured[-1]) if len(measured) else 0
        model, events = run.typed(ModelOptions, "model"), tuple(find_events(run))
        changed = tuple(find_changes(run)) if changes else ()
        return LocatedRun(run, run.info.run_id, run.status, model, tokens, events, changed)
    except RecordsError as error:
        return error
