"""Sweeps of runs that only wait, started as a user does, for tests of what happens to their processes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from induction_bump.launch import leases
from induction_bump.launch.watch import kill_tree
from induction_bump.records.directory import RunDirectory, find_runs

PATIENCE = 120.0
"""Seconds; on a busy machine a process takes many to start."""

_WITHOUT_TORCH = Path(__file__).with_name("without_torch")


def until(holds: Callable[[], object], what: str) -> None:
    """Wait for something, and fail where it does not come."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.05)


@dataclass
class Sweep:
    """`bump train -m` in a process group of its own, over seeds."""

    directory: Path
    process: subprocess.Popen[str]
    processes: set[psutil.Process]

    @classmethod
    def start(cls, directory: Path, *arguments: str, seeds: int = 3) -> "Sweep":
        """Start it in `directory`, in which the runs also look for what they shall do."""
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "induction_bump.cli.main", "train", "-m", "experiment=debug"),
                f"seed.init={','.join(map(str, range(seeds)))}",
                *("tracking=none", "report=off", "devices=cpu", "paths.cache=cache", *arguments),
            ],
            cwd=directory,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(_WITHOUT_TORCH), *filter(None, [os.environ.get("PYTHONPATH")])]),
                "BUMP_TEST_DIRECTORY": str(directory),
                "OMP_NUM_THREADS": "1",
                leases.DIRECTORY: str(directory / "leases"),  # whatever else this machine is doing
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return cls(directory, process, set())

    def begun(self) -> dict[int, dict[str, Any]]:
        """What each run that began told, by its seed; of several beginnings the last."""
        files = sorted(self.directory.glob("begun-*"), key=lambda path: path.stat().st_mtime_ns)
        return {int(path.name.split("-")[1]): json.loads(path.read_text(encoding="utf-8")) for path in files}

    def await_runs(self, count: int) -> dict[int, dict[str, Any]]:
        """Wait until as many runs have begun."""

        def there() -> bool:
            assert self.process.poll() is None, self.process.communicate()
            return len(self.begun()) >= count

        until(there, f"{count} runs have begun")
        self.processes |= {self._psutil, *self._psutil.children(recursive=True)}
        return self.begun()

    @property
    def _psutil(self) -> psutil.Process:
        return psutil.Process(self.process.pid)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; exit code, output and complaints."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err

    def none_left(self) -> bool:
        """Whether all its processes that were seen are gone."""
        return not any(_runs(process) for process in self.processes)

    def runs(self) -> dict[int, RunDirectory]:
        """By seed."""
        return {run.config["seed"]["init"]: run for run in find_runs(self.directory / "runs/debug")}

    def statuses(self) -> dict[int, str]:
        """What `run.json` says, by seed."""
        return {seed: run.info.status for seed, run in sorted(self.runs().items())}

    def clean_up(self) -> None:
        """Leave nothing, should a test have failed."""
        for process in self.processes:
            if _runs(process):
                kill_tree(process.pid)
        kill_tree(self.process.pid)
        self.process.communicate()


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
