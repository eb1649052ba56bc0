"""Starting the processes of a run, waiting for them, and seeing to it that none is left."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from induction_bump.launch import stop, watch
from induction_bump.launch.job import Job

WORKER = "induction_bump.launch.worker"


def command(devices: int) -> list[str]:
    """What starts the worker of one device, or torchrun with a worker for each of several."""
    if devices == 1:
        return [sys.executable, "-m", WORKER]
    torchrun = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(devices), "--max_restarts", "0"]
    return [sys.executable, "-m", *torchrun, "-m", WORKER]


def run(job: Job, devices: int, directory: Path, environment: Mapping[str, str] = os.environ) -> int:
    """Run the workers of a job to their end; returns their exit code, which says less than `run.json` does.

    `directory` is private to this launcher and its workers. Signals ask the workers to stop at a step boundary; a
    second Ctrl-C ends them at once. No worker is left when this returns or raises.
    """
    process = subprocess.Popen(
        command(devices),
        env={**environment, **job.to_environment(), stop.DIRECTORY: str(directory)},
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # one run, one process group: a terminal's Ctrl-C reaches the launcher only
    )
    try:
        # The handler only kills: to wait there would be to wait for a lock that `Popen.wait` holds outside of it.
        with stop.taking_signals(directory, at_once=lambda: watch.kill_tree(process.pid)):
            return process.wait()
    finally:
        if process.returncode is None:
            watch.kill_tree(process.pid)
            process.wait()
