"""Takes measures afterwards, on the saved weights of a run's snapshots, and adds the rows that are missing.

Each snapshot is a task, whatever its run; tasks go to as many processes as there are GPUs, or else cores. This process
holds the locks of the runs, and is the only one that writes: rows that have come together are committed every few
seconds, and whatever ends a call, so that one that is killed loses little, and the next one takes only what is missing.
"""

import time
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import torch

from induction_bump.data.cores import available_cores
from induction_bump.measures.refusals import noted, refusals
from induction_bump.measures.registry import (
    LABEL_COLUMNS,
    MEASURES,
    PROBES,
    VERSIONS,
    measure_of,
    tables_with,
)
from induction_bump.measures.statistics import NotFiniteError
from induction_bump.pools import SPAWN, process_pool
from induction_bump.records.directory import RunDirectory, Snapshot, find_runs
from induction_bump.records.lock import RunLock
from induction_bump.records.saved_weights import doubts, with_weights
from induction_bump.records.schema import RecordsError
from induction_bump.training.measured_runs import Bench, Task, choose_group, devices_of, perform, prepare_worker

COMMIT_SECONDS = 20.0
"""Longest time that rows wait for their part file."""

Steps = Collection[int] | Literal["last"]
"""Snapshots by their step; none given means all."""

Progress = Callable[[int, int, str], None]
"""Called with tasks done, tasks in all, and the run that the last one belongs to."""


@dataclass(frozen=True)
class Added:
    """What was added to one run."""

    run: str
    snapshots: int
    """Snapshots that were measured."""
    rows: int
    """Rows that were not there before."""
    without: Mapping[str, str]
    """What was asked for and could not be had, with the reason."""
    failed: Mapping[int, str] = field(default_factory=dict)
    """Steps of snapshots that could not be measured, with the reason."""
    doubts: Sequence[str] = ()
    """What makes one doubt the weights that were measured, a clause each."""


def check_names(names: Collection[str]) -> None:
    """Raises ValueError for a measure that does not exist."""
    unknown = sorted(set(names) - set(VERSIONS))
    if unknown:
        raise ValueError(f"--measures: no measure is called {', '.join(unknown)}; known: {', '.join(sorted(VERSIONS))}")


def measure(
    path: Path | str,
    names: Collection[str] = (),
    *,
    steps: Steps = (),
    workers: int | None = None,
    progress: Progress = lambda done, total, run: None,
) -> list[Added]:
    """Take measures (all, or those in `names`) of every run at `path` wherever weights were saved (or at `steps`).

    Rows that are there already stay as they are, and what was undefined at a snapshot is not taken again. A snapshot
    whose model is no longer finite is told of in `failed`, and the others are measured. Whatever is raised once
    measuring has begun, finished rows are committed first.
    Args: workers, processes, which share the GPUs; None takes one a GPU, or one a core where no run uses a GPU.
    Raises ValueError for an unknown measure or a step without weights, RecordsError where a run's config or weights
    cannot be read, weights are not those that were saved, or its corpus or probes are no longer the ones it was
    measured on, RunBusyError where another process writes a run, WorkerLostError where one of the processes that
    measure was lost.
    """
    check_names(names)
    wanted = set(names) or set(VERSIONS)
    with ExitStack() as held:
        plans = []
        for run in find_runs(path):
            lock = RunLock(run.path)
            lock.acquire()  # before looking at what is missing, so that nobody else adds it meanwhile
            held.callback(lock.release)
            plans.append(_Plan.of(run, wanted, steps))
        tasks = [(plan, task) for plan in plans for task in plan.tasks]
        cuda_devices = torch.cuda.device_count() if any(plan.bench.device.type == "cuda" for plan in plans) else 0
        count = min(workers or cuda_devices or available_cores(), len(tasks))
        pool = held.enter_context(_pool(devices_of(count, cuda_devices))) if count > 1 else None
        try:
            with closing(_performed(pool, tasks)) as performed:
                for done, (plan, task, outcome) in enumerate(performed, start=1):
                    plan.take(task, outcome)
                    progress(done, len(tasks), plan.run.name)
        except BaseException:
            for plan in plans:
                plan.commit()
            raise
        return [plan.finish() for plan in plans]


def _pool(devices: Sequence[int | None]) -> AbstractContextManager[Executor]:
    """A process for each of the CUDA devices, one of which may be listed more than once."""
    threads = max(1, available_cores() // len(devices))
    to_take = SPAWN.SimpleQueue()
    for device in devices:
        to_take.put(device)
    lost = (
        "was lost, perhaps for want of memory; what was finished is kept, and the same command takes the rest: try "
        "fewer --workers"
    )
    return process_pool(len(devices), "takes measures", prepare_worker, threads, to_take, lost=lost)


def _performed(
    pool: Executor | None, tasks: Iterable[tuple["_Plan", Task]]
) -> Generator[tuple["_Plan", Task, "_Rows | NotFiniteError"], None, None]:
    """What has come of each task, as it comes; in this process where there is no pool."""
    if pool is None:
        for plan, task in tasks:
            yield plan, task, _outcome(partial(perform, plan.bench, task))
        return
    futures: dict[Future[Any], tuple[_Plan, Task]] = {}
    lost = None
    try:
        try:
            for plan, task in tasks:
                futures[pool.submit(perform, plan.bench.path, task)] = plan, task
        except BrokenProcessPool as error:
            lost = error
        for future in as_completed(futures):
            try:
                outcome = _outcome(future.result)
            except BrokenProcessPool as error:
                lost = error  # those that were done before may still come
            else:
                yield *futures[future], outcome
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    if lost:
        raise lost


def _outcome(rows: Callable[[], "_Rows"]) -> "_Rows | NotFiniteError":
    try:
        return rows()
    except NotFiniteError as error:
        return error


_Rows = tuple[Mapping[str, pa.Table], Mapping[str, str]]
"""Tables by name, and measures that could not be taken with the reason."""


@dataclass
class _Plan:
    """What is to be done for one run, and what has come of it."""

    run: RunDirectory
    bench: Bench
    tasks: list[Task]
    wanted: set[str]
    present: Mapping[str, Mapping[int, set[str]]]
    refused: dict[str, str]
    """Measures that this model cannot have, with the reason."""
    postponed: dict[str, str]
    """Measures that cannot be taken as the run stands, with the reason."""
    waiting: dict[str, list[pa.Table]] = field(default_factory=dict)
    without_rows: dict[str, list[int]] = field(default_factory=dict)
    """Measure → steps at which it is undefined."""
    failed: dict[int, str] = field(default_factory=dict)
    """Step → why it could not be measured."""
    committed: float = field(default_factory=time.monotonic)
    rows: int = 0

    @classmethod
    def of(cls, run: RunDirectory, names: set[str], steps: Steps) -> "_Plan":
        snapshots = _saved(run, steps)  # a step without weights is told before anything is written
        bench = Bench.of(run.path)
        config = bench.config
        refused = {name: why for name, why in refusals(config.model).items() if name.partition("/")[0] in names}
        wanted = names - refused.keys()
        if config.measures.repeats.repeats == 2:
            wanted -= {"prefix_matching_mean"}  # the same as prefix_matching, and not recorded
        _check_same(run, bench.hashes, wanted)
        at = [snapshot.step for snapshot in snapshots]
        present = {table: _present(run, table, at) for table in sorted(set().union(*map(tables_with, wanted)))}
        undefined = run.info.without_rows
        group, postponed = None, dict[str, str]()
        if "group_ablation" in wanted:
            group, reason = choose_group(run, bench)
            if reason:
                postponed["group_ablation"] = reason
                wanted -= {"group_ablation"}
        tasks = []
        for snapshot in snapshots:
            missing = {
                name
                for name in wanted
                if any(name not in present[table].get(snapshot.step, set()) for table in tables_with(name))
                and snapshot.step not in undefined.get(name, ())
                and (name != "null99" or snapshot.step == 0)
            }
            if missing:
                mine = group if "group_ablation" in missing else None
                tasks.append(Task(snapshot.step, snapshot.tokens, frozenset(missing), mine))
        return cls(run, bench, tasks, wanted, present, refused, postponed)

    def take(self, task: Task, outcome: _Rows | NotFiniteError) -> None:
        if isinstance(outcome, NotFiniteError):
            self.failed[task.step] = str(outcome)
            return
        tables, left_out = outcome
        self.refused = noted(self.refused, {name: why for name, why in left_out.items() if name in self.wanted})
        for name in task.names:
            if any(table not in tables or name not in _measures(tables[table], table) for table in tables_with(name)):
                self.without_rows.setdefault(name, []).append(task.step)
        for table, rows in tables.items():
            missing = _missing(rows, table, self.present.get(table, {}).get(task.step, set()), self.wanted)
            if missing.num_rows:
                self.waiting.setdefault(table, []).append(missing)
        if time.monotonic() - self.committed > COMMIT_SECONDS:
            self.commit()

    def finish(self) -> Added:
        self.commit()
        measured = [task.step for task in self.tasks if task.step not in self.failed]
        failed = dict(sorted(self.failed.items()))
        without = self.refused | self.postponed
        return Added(self.run.name, len(measured), self.rows, without, failed, doubts(self.run, measured))

    def commit(self) -> None:
        self.committed = time.monotonic()
        info = self.run.info
        known = {"not_applicable": info.not_applicable, "without_rows": info.without_rows}
        now = {
            "not_applicable": noted(info.not_applicable, self.refused),
            "without_rows": _joined(info.without_rows, self.without_rows),
        }
        if now != known:
            self.run.update(**now)
        if not self.waiting and not self.without_rows:
            return
        taken = {n: VERSIONS[n] for n in self.wanted}
        self.run.update(
            measure_versions={**info.measure_versions, **taken}, hashes={**self.bench.hashes, **info.hashes}
        )
        for table, rows in self.waiting.items():
            self.run.append_rows(table, self._next_label(table), pa.concat_tables(rows).sort_by("step"))
            self.rows += sum(part.num_rows for part in rows)
        self.waiting = {}

    def _next_label(self, table: str) -> str:
        """One after those of all part files that are there, whichever were taken away."""
        parts = (self.run.path / "tables").glob(f"{table}-measured*.parquet")
        numbers = [int(number) for part in parts if (number := part.stem.removeprefix(f"{table}-measured")).isdecimal()]
        return f"measured{max(numbers, default=-1) + 1:04d}"


def _saved(run: RunDirectory, steps: Steps) -> list[Snapshot]:
    """Snapshots with weights: all, those at some steps, or the last one. Raises ValueError for a step without any."""
    saved = with_weights(run)
    if steps == "last":
        return saved[-1:]
    there = {s.step for s in saved}
    if unknown := sorted(set(steps) - there):
        listed = ", ".join(map(str, sorted(there))) or "none"
        raise ValueError(f"--steps: {run.name} has no weights of step {unknown[0]}; there are those of {listed}")
    return [s for s in saved if s.step in steps] if steps else saved


def _check_same(run: RunDirectory, hashes: Mapping[str, str], names: set[str]) -> None:
    """Raises RecordsError where rows of now would not belong to the rows that are there."""
    info = run.info
    stale = sorted(name for name in names if info.measure_versions.get(name, VERSIONS[name]) != VERSIONS[name])
    if stale:
        of = [f"version {info.measure_versions[n]} of {n}, and this is version {VERSIONS[n]}" for n in stale]
        raise RecordsError(
            f"{run.path}: it holds {'; '.join(of)}; leave out with --measures what is of another version"
        )
    for hashed, value in hashes.items():
        if info.hashes.get(hashed, value) == value:
            continue
        reading = sorted(name for name in names if hashed in MEASURES[name].probes)
        if reading or hashed not in PROBES:
            which = ", ".join(reading) if hashed in PROBES else "measures"
            raise RecordsError(f"{run.path}: its {hashed} is not what it is now; {which} would not be comparable")


def _measures(table: pa.Table, name: str) -> list[str]:
    """The measure of each row."""
    column = LABEL_COLUMNS.get(name)
    if column is None:
        return [measure_of(name)] * table.num_rows
    labels = table.column(column).to_pylist()
    if name != "ablations":
        return list(map(partial(measure_of, name), labels))
    groups = table.column("layer").is_null().to_pylist()
    return [measure_of(name, label, group=group) for label, group in zip(labels, groups, strict=True)]


def _present(run: RunDirectory, name: str, steps: Collection[int]) -> dict[int, set[str]]:
    """Which measures a table holds at each of the steps; reads no numbers."""
    label = LABEL_COLUMNS.get(name)
    columns = ["step", *([label] if label else []), *(["layer"] if name == "ablations" else [])]
    kinds = run.table(name, steps, columns=columns).group_by(columns, use_threads=False).aggregate([])
    found: dict[int, set[str]] = {}
    for step, measured in zip(kinds.column("step").to_pylist(), _measures(kinds, name), strict=True):
        found.setdefault(step, set()).add(measured)
    return found


def _joined(known: Mapping[str, list[int]], further: Mapping[str, list[int]]) -> dict[str, list[int]]:
    return {name: sorted({*known.get(name, ()), *further.get(name, ())}) for name in sorted({*known, *further})}


def _missing(rows: pa.Table, table: str, present: set[str], names: set[str]) -> pa.Table:
    """Rows of one snapshot that belong to the wanted measures and are not there yet."""
    keep = [name in names and name not in present for name in _measures(rows, table)]
    return rows.filter(pc.field("step") >= 0).filter(pa.array(keep))
