"""One process of a run: `python -m induction_bump.launch.worker`, or a rank of somebody else's torchrun or SLURM job.

It works from the resolved config alone and never sees the command line of a sweep. Rank 0 holds the run's lock, and is
the only one that writes. How a run ended stands in `run.json`; where that cannot be, a note goes to the launcher. The
exit code means nothing beyond that: torchrun turns every code into 1.
"""

import contextlib
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from induction_bump.config.errors import ConfigError
from induction_bump.data.errors import CorpusError
from induction_bump.launch import facts, note, ranks, resume, stop, watch
from induction_bump.launch.job import Job
from induction_bump.launch.outcome import Outcome, explain_failure
from induction_bump.launch.ranks import Rank
from induction_bump.launch.standing import refuse_other_run
from induction_bump.records.directory import RunDirectory
from induction_bump.records.lock import RunBusyError, RunLock
from induction_bump.streams import show_what_can_be_shown
from induction_bump.training.errors import FirstRankFailedError
from induction_bump.training.options import RunConfig

LOCK_SECONDS = 30.0
"""How long a second writer waits for the first."""

_GRACE_SECONDS = 5.0
_log = logging.getLogger("induction_bump")


def main() -> int:
    """Run as a launcher's child; the outcome is in `run.json` or in a note."""
    show_what_can_be_shown()
    job = Job.from_environment()
    if job.watched:
        watch.end_with(job.watched)
    stop.ignore_signals()
    directory = Path(os.environ[stop.DIRECTORY])
    _end_with_others(directory)
    outcome = work(job, ranks.from_environment())
    # Other ranks may wait for this one: they are told whatever ends it that does not end them too. One that was told by
    # the first rank leaves it to that rank to say why.
    told = outcome.status == "failed" and outcome.message is None
    if not told and (not outcome.recorded or outcome.status == "failed" or outcome.left):
        note.Note(outcome.message, outcome.status, outcome.left).leave(directory)
    return 0


def work(job: Job, rank: Rank | None) -> Outcome:
    """Train the run of `job` as `rank`, in this process."""
    config, run = job.typed, RunDirectory(job.path)
    try:
        if rank and not rank.first:
            return _train(job, config, run, rank)
        accelerator = _accelerator(config)
        lock = RunLock(run.path)
        lock.acquire(timeout=LOCK_SECONDS)
        try:
            return _write(job, config, run, rank, accelerator)
        finally:
            lock.release()
    except (ConfigError, CorpusError) as error:
        return Outcome(job.run_id, job.path, "refused", str(error))
    except RunBusyError as error:
        return Outcome(job.run_id, job.path, "busy", str(error))
    except FirstRankFailedError:
        return Outcome(job.run_id, job.path, "failed")
    except Exception as error:
        return Outcome(job.run_id, job.path, "failed", explain_failure(error))


def _write(job: Job, config: RunConfig, run: RunDirectory, rank: Rank | None, accelerator: str) -> Outcome:
    """What only rank 0 does, holding the lock: begin, log, mirror, end."""
    refuse_other_run(run, job)
    info = facts.first_info(job, rank.world if rank else 1, accelerator)
    if run.exists and run.info.status == "finished":
        return Outcome(job.run_id, job.path, "skipped")
    with _logging_to(run.path / "log.txt"):
        info = resume.take_up(run, info) if run.exists else info
        run.begin(job.config, info)
        return _train_and_tell(job, config, run, rank)


def _train_and_tell(job: Job, config: RunConfig, run: RunDirectory, rank: Rank | None) -> Outcome:
    from induction_bump.launch.accompanied import accompanied

    with accompanied(run) as companion:
        outcome = _train_to_an_end(job, config, run, rank)
    return replace(outcome, left=tuple(companion.left)) if companion else outcome


def _train_to_an_end(job: Job, config: RunConfig, run: RunDirectory, rank: Rank | None) -> Outcome:
    _log.info("run %s, generation %d: %s", job.run_id, run.info.generation, job.path)
    try:
        outcome = _train(job, config, run, rank)
    except Exception as error:
        message = explain_failure(error)
        _log.exception("failed: %s", message)
        if job.watched and not job.watched.alive():
            raise  # other ranks ended with the launcher, and that is what broke: the run was interrupted
        run.update(status="failed", message=message, finished_at=facts.timestamp())
        return Outcome(job.run_id, job.path, "failed", message, recorded=True)
    run.update(status=outcome.status, finished_at=facts.timestamp())
    _log.info("%s", outcome.status)
    return outcome


def _train(job: Job, config: RunConfig, run: RunDirectory, rank: Rank | None) -> Outcome:
    with _sparing_imports():
        from induction_bump.training.train import train  # torch starts to load here

    trained = train(config, run, stop.requested, rank.starter if rank else "none")
    return Outcome(job.run_id, job.path, "preempted" if trained.stopped else "finished", recorded=True)


@contextmanager
def _sparing_imports() -> Generator[None, None, None]:
    """Spare `scipy.signal`, a second of every start: Lightning's metrics load it only to give it back an old name."""
    name = "scipy.signal"
    if name in sys.modules:
        yield
        return
    stand_in = ModuleType(name)
    stand_in.__dict__["hamming"] = None
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        del sys.modules[name]  # whoever wants it gets it


def _accelerator(config: RunConfig) -> str:
    """`cpu`, or the model of the GPUs that are used; `auto` without any means the CPU.

    Raises ConfigError where CUDA devices are asked for that are not there.
    """
    devices = config.devices
    if devices.accelerator == "cpu":
        return "cpu"
    import torch

    there = torch.cuda.device_count()
    if there < devices.count and (there or devices.accelerator == "cuda"):
        raise ConfigError(
            f"devices.accelerator={devices.accelerator}, devices.count={devices.count}: "
            f"this machine has {there} CUDA devices"
        )
    return torch.cuda.get_device_name(0) if there else "cpu"


class _LogFile(logging.FileHandler):
    """A log that says nothing on the terminal, and stops nothing, where it cannot be written."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Drop the record: on a full disk the launcher tells what happened, in one line."""

    def close(self) -> None:
        """Close it, with or without what could not be written."""
        with contextlib.suppress(OSError):
            super().close()


@contextmanager
def _logging_to(path: Path) -> Generator[None, None, None]:
    """Append Python's log and warnings to a file of the run."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    level, shown = root.level, warnings.showwarning
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        warnings.showwarning = shown
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()


def _end_with_others(directory: Path) -> None:
    """End this worker a little after another one has left a note; the launcher sees to the rest."""

    def look() -> None:
        while note.find(directory) is None:
            time.sleep(0.5)
        time.sleep(_GRACE_SECONDS)
        os._exit(0)

    threading.Thread(target=look, name="watch-workers", daemon=True).start()


if __name__ == "__main__":
    ended = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ended)  # threads of gloo abort a process that ends in order just when another rank's has ended
