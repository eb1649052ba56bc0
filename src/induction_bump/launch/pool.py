"""A sweep on one machine, several cells at once: `hydra/launcher=pool`, through hydra-joblib-launcher.

Each process of the pool takes the next cell, waits until devices are lent to it, and starts the cell's workers on them.
The launcher alone takes signals; whatever becomes of a process of the pool, the other cells keep what they came to.
"""

import importlib.util
import os
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import psutil
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from induction_bump.launch.sweeper import Prepared

if TYPE_CHECKING:
    from induction_bump.launch.demand import Demand
    from induction_bump.launch.leases import Kind, Machine
    from induction_bump.launch.ledger import Ledger
    from induction_bump.launch.outcome import Outcome
    from induction_bump.launch.plan import Cell
    from induction_bump.launch.task import Task

_ATTEMPTS = 2
"""How often a cell may be under way when the pool breaks; joblib ends all its processes when one of them dies."""


class Pool(Prepared):
    """Runs cells beside each other, as many as the machine's devices are enough for."""

    def __init__(self, n_jobs: Any = None, **unknown: Any) -> None:
        """`n_jobs` cells at once; None for as many as fit."""
        self.n_jobs, self.unknown = n_jobs, unknown

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives. Raises ConfigError for wrong options, or without joblib's launcher."""
        from induction_bump.config.errors import ConfigError

        require("hydra_joblib_launcher", "pool", "joblib")
        # checked here, since Hydra wraps what is raised while it makes a launcher
        for name in self.unknown:
            raise ConfigError(f"hydra.launcher.{name}: hydra/launcher=pool has no such option; it has n_jobs")
        jobs = self.n_jobs
        if jobs is not None and (not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1):
            raise ConfigError(
                f"hydra.launcher.n_jobs={jobs}: must be a whole number of at least 1, or null for as many as fit"
            )
        self.context, self.config = hydra_context, config
        self.task = cast("Task", task_function)

    def prepare(self, cells: Sequence["Cell"]) -> None:
        """Learn what will be launched. Raises ConfigError for a cell for which the machine is too small."""
        from induction_bump.launch.demand import Demand
        from induction_bump.launch.leases import Machine

        self.cells, self.machine = list(cells), Machine.this()
        demands = [Demand.of(cell.config, self.machine, self.n_jobs) for cell in cells]
        self.at_once = min(len(cells), self.n_jobs or sum(_fitting(self.machine, demands))) or 1

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the cells that `prepare` was told of, to an outcome for each."""
        from multiprocessing import resource_tracker

        from induction_bump.launch import stop
        from induction_bump.launch.cell import private_directory
        from induction_bump.launch.ledger import Ledger

        batch = list(job_overrides)
        assert len(batch) == len(self.cells)
        if self.at_once > 1:
            print(f"{len(batch)} runs, {self.at_once} at once", flush=True)
        resource_tracker.ensure_running()  # which joblib would start later, letting signals in again
        with (
            private_directory() as private,
            _exported(stop.SWEEP, str(private)),
            stop.taking_signals_apart(private, at_once=_end_processes),
        ):
            outcomes = self._outcomes(batch, Ledger(private))
        return [returned(outcome) for outcome in outcomes]

    def _outcomes(self, batch: list[Sequence[str]], ledger: "Ledger") -> "list[Outcome]":
        from induction_bump.launch import cell, stop
        from induction_bump.launch.outcome import Outcome

        pending, under_way, idle = list(range(len(batch))), Counter[int](), 0
        while pending and not stop.requested():
            broken = not self._run(batch, pending, ledger)
            unknown = [number for number in pending if ledger.outcome(number) is None]
            if not broken or stop.requested():
                break
            begun = [number for number in unknown if ledger.begun(number)]
            under_way.update(begun)
            idle = 0 if begun or len(unknown) < len(pending) else idle + 1
            for number in unknown:
                job = self.cells[number].job
                if number in begun:
                    cell.await_end(job.path)
                if under_way[number] >= _ATTEMPTS or idle >= _ATTEMPTS:
                    failed = Outcome(job.run_id, job.path, "failed", "the process of the pool that ran it was ended")
                    ledger.end(number, cell.record(failed))
                else:
                    ledger.forget(number)
            pending = [number for number in unknown if ledger.outcome(number) is None]
        return [self._outcome(number, ledger) for number in range(len(batch))]

    def _run(self, batch: list[Sequence[str]], numbers: list[int], ledger: "Ledger") -> bool:
        """Let joblib run some of the cells; False where one of its processes died."""
        from concurrent.futures.process import BrokenProcessPool

        from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher

        from induction_bump.launch.leased import LeasedTask
        from induction_bump.launch.watch import Watched

        at_once = min(self.at_once, len(numbers))
        task: Any = LeasedTask(
            self.task, self.machine, asked=self.n_jobs, at_once=self.at_once, numbers=numbers, ledger=ledger
        )
        joblib = JoblibLauncher(
            n_jobs=at_once,
            pre_dispatch=at_once,
            batch_size=1,
            initializer=_begin,
            initargs=(str(Watched.this()),),
        )
        joblib.setup(hydra_context=self.context, task_function=task, config=self.config)
        try:
            joblib.launch(_UntilStopped([batch[number] for number in numbers]), initial_job_idx=0)
        except BrokenProcessPool:
            return False
        finally:
            _shut_down()
        return True

    def _outcome(self, number: int, ledger: "Ledger") -> "Outcome":
        """What became of a cell, also where a stop left it untold."""
        from induction_bump.launch import cell
        from induction_bump.launch.outcome import Outcome

        job = self.cells[number].job
        if known := ledger.outcome(number):
            return known if known.path else replace(known, path=job.path)
        if ledger.begun(number):
            return cell.record(Outcome(job.run_id, job.path, "preempted"))
        return Outcome(job.run_id, job.path, "waiting")


def require(package: str, launcher: str, extra: str) -> None:
    """Raises ConfigError with what to install where a plugin of Hydra is missing."""
    from induction_bump.config.errors import ConfigError

    if importlib.util.find_spec(f"hydra_plugins.{package}") is None:
        raise ConfigError(
            f"hydra/launcher={launcher}: needs {package.replace('_', '-')}; pip install 'induction-bump[{extra}]'"
        )


class _UntilStopped(Sequence[Sequence[str]]):
    """The cells, until a stop is requested; joblib asks for the next one when a process is free."""

    def __init__(self, cells: Sequence[Sequence[str]]) -> None:
        self._cells = cells

    def __len__(self) -> int:
        return len(self._cells)

    def __getitem__(self, index: Any) -> Any:
        from induction_bump.launch import stop

        if stop.requested():
            raise IndexError(index)
        return self._cells[index]


def _fitting(machine: "Machine", demands: "Sequence[Demand]") -> Iterator[int]:
    """How many of the smallest cells of each kind fit at once."""
    kinds: set[Kind] = {demand.kind for demand in demands}
    for kind in kinds:
        smallest = min(demand.count for demand in demands if demand.kind == kind)
        yield len(machine.there(kind)) // smallest


def _begin(launcher: str) -> None:
    """What each process of the pool does first."""
    from induction_bump.launch import stop, watch
    from induction_bump.streams import show_what_can_be_shown

    show_what_can_be_shown()
    watch.end_with(watch.Watched.parse(launcher))
    stop.leave_signals()


def _end_processes() -> None:
    """End the processes of the pool with all below them; joblib's trackers, which tidy up, end by themselves."""
    from induction_bump.launch.watch import kill_tree

    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if not any("resource_tracker" in argument for argument in child.cmdline()):
                kill_tree(child.pid)


def _shut_down() -> None:
    """End joblib's processes, which would stay for five minutes."""
    from joblib.externals.loky import reusable_executor

    executor = vars(reusable_executor)["_executor"]
    if executor is not None:
        executor.shutdown(wait=True, kill_workers=True)


def returned(outcome: "Outcome") -> JobReturn:
    """An outcome as Hydra's launchers return it."""

    done = JobReturn(status=JobStatus.COMPLETED)
    done.return_value = outcome
    return done


@contextmanager
def _exported(name: str, value: str) -> Generator[None, None, None]:
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
