"""A worker that only waits, and a launcher of such workers, as processes of their own."""

import os
import sys
import time
from pathlib import Path

from induction_bump.launch import stop, watch, workers
from induction_bump.launch.job import Job
from induction_bump.launch.watch import Watched


def work() -> None:
    """Say who it is, then wait to be asked to stop; with `BUMP_TEST_DEAF`, wait on."""
    job = Job.from_environment()
    assert job.watched
    watch.end_with(job.watched, every_seconds=0.1)
    stop.ignore_signals()
    (Path(job.path) / f"worker-{os.getpid()}").touch()
    while not stop.requested() or "BUMP_TEST_DEAF" in os.environ:
        time.sleep(0.05)
    (Path(job.path) / "stopped").touch()


def launch(path: Path, devices: int) -> int:
    """Start workers that tell themselves in `path`."""
    workers.WORKER = "tests.launch.stand_in"
    private = path / "private"
    private.mkdir()
    return workers.run(Job({}, "", "", str(path), 1, str(Watched.this())), devices, private)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        raise SystemExit(launch(Path(sys.argv[1]), int(sys.argv[2])))
    work()
