"""Attempts at a run, each in processes of its own that a fault may end."""

import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from induction_bump.config.resolve import dump
from induction_bump.launch import cell, ranks, worker
from induction_bump.launch.job import Job
from induction_bump.options import parse
from induction_bump.records.directory import RunDirectory
from induction_bump.training import rows
from induction_bump.training.options import RunConfig
from tests.faults.inject import Fault, Injector
from tests.ranked import ahead, as_torchrun_does, free_port
from tests.records.same import assert_same_records

PATIENCE = 120.0
OTHERS_END_SECONDS = 1.0
"""torchrun ends the other ranks of one that died."""


def attempt(
    job: Job, fault: Fault | None = None, *, log: Path | None = None, rank: int = 0, after: float | None = None
) -> list[str]:
    """Try to train in as many processes as the config has devices; returns how it ended for each.

    One rank has a fault, or is killed `after` some seconds. `finished`, `killed`, or what the rank says of its failure.
    """
    count = job.typed.devices.count
    port = free_port() if count > 1 else 0
    processes: list[BaseProcess] = []
    pipes: list[Connection] = []
    for number in range(count):
        receiver, sender = ahead.Pipe(duplex=False)
        own = fault if fault and number == rank else Fault()
        arguments = (job, number, port, own, log if number == 0 else None, sender)
        processes.append(ahead.Process(target=_work, args=arguments))
        processes[-1].start()
        sender.close()
        pipes.append(receiver)
    if after is not None:
        processes[rank].join(after)
        processes[rank].kill()
    _await_end(processes)
    return [_told(receiver) for receiver in pipes]


def _await_end(processes: list[BaseProcess]) -> None:
    deadline, died = time.monotonic() + PATIENCE, None
    while any(process.is_alive() for process in processes):
        if died is None and any(process.exitcode for process in processes):
            died = time.monotonic()
        if time.monotonic() > deadline or (died and time.monotonic() > died + OTHERS_END_SECONDS):
            for process in processes:
                process.kill()
        time.sleep(0.01)


def _told(receiver: Connection) -> str:
    with receiver:
        try:
            return receiver.recv()
        except EOFError:
            return "killed"


def _work(job: Job, rank: int, port: int, fault: Fault, log: Path | None, sender: Connection) -> None:
    import datasets
    import torch

    torch.set_num_threads(job.threads)
    datasets.config.HF_DATASETS_CACHE = Path(job.typed.paths.cache).parent / "arrow"
    count = job.typed.devices.count
    if count > 1:
        as_torchrun_does(rank, count, port)
        os.environ["OMP_NUM_THREADS"] = str(job.threads)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    rows.COMMIT_SECONDS = math.inf  # what is written when a step was slow would be another call in some attempts
    Injector(fault, [Path(job.path), Path(job.typed.paths.cache)], log).install()
    outcome = worker.work(job, ranks.from_environment() if count > 1 else None)
    sender.send(outcome.message or outcome.status)
    os._exit(outcome.code)


def left_aside(*directories: Path) -> list[Path]:
    """What no writer has cleared away."""
    return [path for directory in directories for path in directory.rglob("*.tmp")]


@contextmanager
def _file_system(at: Path, size: int) -> Generator[Callable[[int], object], None, None]:
    """One of its own, in memory; yields what gives it another size."""
    at.mkdir()

    def mount(*options: str) -> None:
        subprocess.run(["mount", *options, "tmpfs", str(at)], check=True, capture_output=True)

    mount("-t", "tmpfs", "-o", f"size={size}")
    try:
        yield lambda larger: mount("-o", f"remount,size={larger}")
    finally:
        subprocess.run(["umount", str(at)], check=True, capture_output=True)


def can_mount() -> bool:
    """Whether this user may mount a file system, as root may."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            with _file_system(Path(directory) / "disk", 1_000_000):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


class Suite:
    """Runs of one config that faults befall, and the one that none befell."""

    def __init__(self, directory: Path, config: RunConfig) -> None:
        self.directory, self.base = directory, dump(config)
        self.trials = 0
        self.faults = 0
        """Those that befell a run: a kill that came after its end is none."""
        self.lost: list[str] = []
        """Faults after which a run did not become the uninterrupted one, with the difference."""
        self.expected = RunDirectory(self.job("expected").path)
        self.cold = self.points("expected", "cache")
        began = time.monotonic()
        self.warm = self.points("warm", "cache")
        self.seconds = time.monotonic() - began

    def job(self, name: str, cache: str = "cache") -> Job:
        """A run below `name`, with a cache."""
        paths = {"runs": str(self.directory / name), "cache": str(self.directory / cache)}
        return replace(cell.plan(parse(RunConfig, {**self.base, "paths": paths})), threads=1)

    def points(self, name: str, cache: str) -> list[str]:
        """Train once without faults; the calls that write, in order."""
        log = self.directory / f"{name}.points"
        assert attempt(self.job(name, cache), log=log) == ["finished"] * self.base["devices"]["count"]
        return log.read_text(encoding="utf-8").splitlines()

    def points_after(self, fault: Fault) -> list[str]:
        """The calls that write in the attempt after one that `fault` ended."""
        name = f"after{fault.at}"
        assert attempt(self.job(name), fault) == ["killed"]
        points = self.points(name, "cache")
        shutil.rmtree(self.directory / name)
        return points

    def trial(self, *faults: dict[str, Any], cold: bool = False, allowed: str = "") -> None:
        """A run that each of the faults befalls, one after the other, and that is then trained to its end.

        `allowed` is how else than killed the first rank may end.
        """
        job, run = self._next_job(cold)
        try:
            for fault in faults:
                told = attempt(job, **fault)
                self._befell(fault, told, allowed)
                if cell.is_finished(run):  # a launcher starts no processes for it
                    break
            self._completed(job)
        except AssertionError as error:
            self.lost.append(f"{faults}: {error}")
            return
        self._tidy()

    def trial_on_a_disk_of(self, size: int, enough: int) -> None:
        """A run on a file system of so many bytes, which is then made large enough. Needs the right to mount."""
        job, _ = self._next_job()
        with _file_system(self.directory / f"trial{self.trials}", size) as grow:
            try:
                [told] = attempt(job)
                assert told.startswith("disk full: cannot write "), told
                self.faults += 1
                grow(enough)
                self._completed(job)
            except AssertionError as error:
                self.lost.append(f"a disk of {size} bytes: {error}")

    def _next_job(self, cold: bool = False) -> tuple[Job, RunDirectory]:
        self.trials += 1
        name = f"trial{self.trials}"
        job = self.job(name, f"{name}-cache" if cold else "cache")
        return job, RunDirectory(job.path)

    def _befell(self, fault: dict[str, Any], told: list[str], allowed: str) -> None:
        """Count it; one at a named call is always met, and one at a moment unless it came too late."""
        ended = told[fault.get("rank", 0)]
        if "after" in fault:
            self.faults += ended == "killed"
            return
        assert ended == "killed" or (allowed and ended.startswith(allowed)), told
        self.faults += 1

    def _completed(self, job: Job) -> None:
        run = RunDirectory(job.path)
        if not cell.is_finished(run):
            told = attempt(job)
            assert told == ["finished"] * len(told), told
        assert run.info.status == "finished"
        assert_same_records(run, self.expected)
        assert not left_aside(Path(job.path), Path(job.typed.paths.cache))

    def _tidy(self) -> None:
        for name in (f"trial{self.trials}", f"trial{self.trials}-cache"):
            shutil.rmtree(self.directory / name, ignore_errors=True)

    def __str__(self) -> str:
        return f"{self.faults} faults injected, {len(self.lost)} runs lost or changed"
