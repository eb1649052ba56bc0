"""A sweep on a cluster, each cell a job: `hydra/launcher=slurm`, through hydra-submitit-launcher.

submitit takes the signals of a job, and requeues it. The cells' outcomes come from files that they write, so that one
job which the cluster kills hides nothing of the others.
"""

import io
import logging
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import psutil
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from induction_bump.launch.pool import require, returned
from induction_bump.launch.sweeper import Prepared

if TYPE_CHECKING:
    from induction_bump.launch.ledger import Ledger
    from induction_bump.launch.outcome import Outcome
    from induction_bump.launch.plan import Cell
    from induction_bump.launch.task import Task

_LAUNCHERS = {"slurm": "slurm", "local": "slurm_local"}
_POLL_SECONDS = 0.5
_QUEUE_SECONDS = 15
_TIMES_MISSING = 2
_CORES_PER_DEVICE = 4
_LOCAL_DELAY_SECONDS = 30
_SHARE_TO_STOP = 0.75
"""Of the time between submitit's warning and the end of the job; the rest is for the requeue."""
_SHARED = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "name", "stderr_to_stdout")
"""Parameters that submitit knows for every kind of cluster; the others are SLURM's."""

_SUBMITTING = "submitting.lock"
_PREPARED = ("*.pkl", ".submission_file_*.sh")
"""Names of the files that submitit writes before it asks the cluster."""


@dataclass(frozen=True)
class _Submitted:
    number: int
    job: Any


class _Queue:
    """SLURM's queue, for clusters that keep no accounts: there submitit never learns that a job has ended."""

    def __init__(self, submitted: Sequence[_Submitted]) -> None:
        self._known = [str(each.job.job_id) for each in submitted]
        self._arrays = sorted({job_id.partition("_")[0] for job_id in self._known})
        self._next = time.monotonic() + _QUEUE_SECONDS
        self._missing: Counter[str] = Counter()

    def lost(self, job: Any) -> bool:
        """Whether a job of unknown state was not in the queue twice; files of its outcome may take a while to show."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _QUEUE_SECONDS
            self._look()
        return self._missing[str(job.job_id)] >= _TIMES_MISSING and job.state == "UNKNOWN"

    def _look(self) -> None:
        call = ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={','.join(self._arrays)}"]
        said = subprocess.run(call, capture_output=True, text=True, check=False)
        if said.returncode and "Invalid job id" not in said.stderr:
            return  # the controller does not answer
        there = set(said.stdout.split())
        for job_id in self._known:
            self._missing[job_id] = 0 if job_id in there else self._missing[job_id] + 1


class Cluster(Prepared):
    """Submits cells, and waits until each has an outcome."""

    cluster: Literal["slurm", "local"] = "slurm"

    def __init__(self, max_num_timeout: Any = 0, **parameters: Any) -> None:
        """Parameters as in `conf/hydra/launcher/slurm.yaml`."""
        self.max_num_timeout = max_num_timeout
        self.elsewhere = self.cluster == "slurm"
        self.parameters: dict[str, Any] = {
            key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in parameters.items()
        }

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives. Raises ConfigError for wrong options, or without submitit's launcher or SLURM."""
        from induction_bump.config.errors import ConfigError

        given = {"max_num_timeout": self.max_num_timeout, "signal_delay_s": self.parameters.get("signal_delay_s")}
        for name, value in given.items():  # the others are checked by submitit
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
                raise ConfigError(f"hydra.launcher.{name}={value}: must be a whole number of at least 0")
        require("hydra_submitit_launcher", _LAUNCHERS[self.cluster], "submitit")
        if self.cluster == "slurm" and shutil.which("srun") is None:
            raise ConfigError("hydra/launcher=slurm: this machine has no srun; start from one of the cluster's")
        self.context, self.config = hydra_context, config
        self.task = cast("Task", task_function)

    def prepare(self, cells: "Sequence[Cell]") -> None:
        """Learn what will be launched. Raises ConfigError for parameters that submitit refuses."""
        from induction_bump.config.errors import ConfigError

        self.cells = list(cells)
        try:
            for needs in {self._needs(cell) for cell in cells}:
                with tempfile.TemporaryDirectory() as aside:
                    self._executor(Path(aside), dict(needs))
        except (AssertionError, NameError, TypeError, ValueError) as error:
            raise ConfigError(f"hydra.launcher: {str(error).splitlines()[0]}") from None

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the cells that `prepare` was told of, to an outcome for each."""
        from induction_bump.launch import stop
        from induction_bump.launch.ledger import Ledger
        from induction_bump.records.files import made

        batch = list(job_overrides)
        jobs = made(Path(str(self.config.hydra.sweep.dir)) / "jobs")
        shared = Path(tempfile.mkdtemp(prefix="sweep-", dir=jobs))
        ledger, submitted = Ledger(shared), list[_Submitted]()
        with stop.taking_signals(shared, at_once=lambda: self._end(submitted)):
            outcomes = self._submit(batch, ledger, jobs, submitted)
            if submitted:
                numbers = ", ".join(str(each.job.job_id) for each in submitted)
                print(f"{len(submitted)} runs as jobs {numbers}; logs: {jobs}", flush=True)
            outcomes |= self._outcomes(submitted, ledger)
        shutil.rmtree(shared, ignore_errors=True)
        with suppress(OSError):
            (jobs / "%j").rmdir()  # submitit's own, before a job has its number
        with suppress(OSError):
            jobs.rmdir()  # where none was submitted
        return [returned(outcomes[number]) for number in range(len(batch))]

    def _submit(
        self, batch: list[Sequence[str]], ledger: "Ledger", jobs: Path, submitted: list[_Submitted]
    ) -> "dict[int, Outcome]":
        """One array of jobs for all cells that need the same, added to `submitted`; returns those that are refused."""
        from hydra.core.singleton import Singleton
        from submitit.core.utils import FailedJobError

        from induction_bump.launch.outcome import Outcome
        from induction_bump.launch.submitted import SubmittedCell
        from induction_bump.launch.watch import Watched

        alike: dict[Any, list[int]] = defaultdict(list)
        for number, cell in enumerate(self.cells):
            alike[self._needs(cell)].append(number)
        refused: dict[int, Outcome] = {}
        for needs, numbers in alike.items():
            run = SubmittedCell(
                self.task,
                numbers,
                ledger,
                launcher=str(Watched.this()) if self.cluster == "local" else None,
                patience=_SHARE_TO_STOP * (self.parameters.get("signal_delay_s") or _LOCAL_DELAY_SECONDS),
            )
            run.setup(hydra_context=self.context, task_function=run.task, config=self.config)
            arguments = [
                (list(batch[number]), "hydra.sweep.dir", place, "", Singleton.get_state())
                for place, number in enumerate(numbers)
            ]
            try:
                # submitit writes to stderr what it raises, too
                with _nothing_left_of_a_refusal(jobs), _held_back_from_jobs(), redirect_stderr(io.StringIO()):
                    found = self._executor(jobs, dict(needs)).map_array(run, *zip(*arguments, strict=True))
            except FailedJobError as error:
                message = f"hydra/launcher={_LAUNCHERS[self.cluster]}: {_reason(error)}"
                for number in numbers:
                    job = self.cells[number].job
                    refused[number] = Outcome(job.run_id, job.path, "refused", message)
            else:
                submitted += [_Submitted(number, job) for number, job in zip(numbers, found, strict=True)]
        return refused

    def _needs(self, cell: "Cell") -> tuple[tuple[str, int], ...]:
        """GPUs and cores of a cell's job, so far as they are not given."""
        devices = cell.config.devices
        gpus = 0 if devices.accelerator == "cpu" else devices.count
        cores = devices.count * ((devices.threads or _CORES_PER_DEVICE) + devices.loader_workers)
        given = self.parameters
        derived = {"gpus_per_node": gpus, "cpus_per_task": cores}
        return tuple((key, value) for key, value in derived.items() if given.get(key) is None)

    def _executor(self, folder: Path, needs: dict[str, int]) -> Any:
        import submitit

        executor = submitit.AutoExecutor(
            folder=folder / "%j", cluster=self.cluster, **{f"{self.cluster}_max_num_timeout": self.max_num_timeout}
        )
        given = {key: value for key, value in self.parameters.items() if value is not None} | needs
        executor.update_parameters(
            tasks_per_node=1, nodes=1, **{k if k in _SHARED else f"{self.cluster}_{k}": v for k, v in given.items()}
        )
        return executor

    def _outcomes(self, submitted: list[_Submitted], ledger: "Ledger") -> "dict[int, Outcome]":
        """Wait for all of them."""
        found: dict[int, Outcome] = {}
        queue = _Queue(submitted)
        logging.getLogger("submitit").setLevel(logging.ERROR)  # it warns of a missing sacct; `queue` is for that
        while len(found) < len(submitted):
            for each in submitted:
                if each.number not in found and (outcome := self._outcome(each, ledger, queue)):
                    found[each.number] = outcome
            time.sleep(_POLL_SECONDS)
        return found

    def _outcome(self, each: _Submitted, ledger: "Ledger", queue: "_Queue") -> "Outcome | None":
        """How a cell ended; None while its job goes on or waits."""
        from induction_bump.launch import cell, stop
        from induction_bump.launch.outcome import Outcome

        job = self.cells[each.number].job
        over = each.job.done() or (self.cluster == "slurm" and queue.lost(each.job))
        if known := ledger.outcome(each.number):
            return known if known.path else replace(known, path=job.path)
        if stop.requested() and not ledger.begun(each.number):
            each.job.cancel(check=False)
            return Outcome(job.run_id, job.path, "waiting")
        if not over:
            return None
        if stop.requested():
            return cell.record(Outcome(job.run_id, job.path, "preempted"))
        message = f"job {each.job.job_id} ended without an outcome ({each.job.state}); see {each.job.paths.stderr}"
        return cell.record(Outcome(job.run_id, job.path, "failed", message))

    def _end(self, submitted: list[_Submitted]) -> None:
        for each in submitted:
            each.job.cancel(check=False)
        if self.cluster == "local":
            from induction_bump.launch.watch import kill_tree

            for child in psutil.Process().children():
                kill_tree(child.pid)


def _reason(error: Exception) -> str:
    """What sbatch said last, which is why; lines before it may be of plugins."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@contextmanager
def _nothing_left_of_a_refusal(jobs: Path) -> Generator[None, None, None]:
    """Remove what submitit has prepared in `jobs` where the cluster then refuses it.

    Sweeps of a study share the directory, so they submit one after the other: what is new is this one's.
    """
    from submitit.core.utils import FailedJobError

    from induction_bump.data.building import locked

    with locked(jobs / _SUBMITTING):
        there = set(jobs.iterdir())
        try:
            yield
        except FailedJobError:
            for prepared in {file for name in _PREPARED for file in jobs.glob(name)} - there:
                prepared.unlink()
            raise


@contextmanager
def _held_back_from_jobs() -> Generator[None, None, None]:
    """Start submitit's local jobs so that a Ctrl-C at this terminal is for this process alone."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGUSR1})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
