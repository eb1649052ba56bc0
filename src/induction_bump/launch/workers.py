"""Starting the processes of a run, waiting for them, and seeing to it that none is left."""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from induction_bump.launch import stop, watch
from induction_bump.launch.job import Job

WORKER = "induction_bump.launch.worker"


def command(devices: int) -> list[str]:
    """What starts the worker of one device, or torchrun with a worker for each of several."""
    if devices == 1:
        return [sys.executable, "-m", WORKER]
    torchrun = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(devices), "--max_restarts", "0"]
    return [sys.executable, "-m", *torchrun, "-m", WORKER]


def run(
    job: Job,
    devices: int,
    directory: Path,
    environment: Mapping[str, str] = os.environ,
    *,
    own_terminal: bool = True,
) -> int:
    """Run the workers of a job to their end; returns their exit code, which says less than `run.json` does.

    `directory` is private to this launcher and its workers. Signals ask the workers to stop at a step boundary; a
    second Ctrl-C ends them at once. No worker is left when this returns or raises. Workers that share the terminal
    with those of other runs (`own_terminal=False`) see none, and so write lines in place of a bar.
    """
    shared = not own_terminal and sys.stderr.isatty()
    started: list[subprocess.Popen[bytes]] = []

    def end() -> None:
        # Only kills: to wait in a signal's handler would be to wait for a lock that `Popen.wait` holds outside of it.
        for process in started:
            watch.kill_tree(process.pid)

    try:
        with stop.taking_signals(directory, at_once=end):
            with stop.held_back():
                process = subprocess.Popen(
                    command(devices),
                    env={**environment, **job.to_environment(), stop.DIRECTORY: str(directory)},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE if shared else None,
                    stderr=subprocess.STDOUT if shared else None,
                    start_new_session=True,  # one run, one process group: a terminal's Ctrl-C reaches the launcher only
                )
                started.append(process)
            if process.stdout:
                threading.Thread(target=_pass_on, args=[process.stdout], name="pass-on-lines", daemon=True).start()
            return process.wait()
    finally:
        if started and started[0].returncode is None:
            end()
            started[0].wait()


def _pass_on(lines: IO[bytes]) -> None:
    """Write whole lines, which those of other runs may stand between, until the last of the workers has ended."""
    for line in lines:
        sys.stderr.write(line.decode(errors="replace"))
        sys.stderr.flush()
