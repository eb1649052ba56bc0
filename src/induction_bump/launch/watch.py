"""No process outlives the one that started it.

A signal cannot do this: a launcher killed with -9 passes nothing on, and torchrun gives each worker a session of its
own, which no signal to the launcher's group reaches.
"""

import contextlib
import errno
import os
import threading
import time
from dataclasses import dataclass

import psutil

from induction_bump.processes import running_since

_GONE = 1
"""Exit code of a worker whose launcher has gone; nobody is left to read it."""


@dataclass(frozen=True)
class Watched:
    """A process, told from a later one with the same pid by a number that no step of the clock moves."""

    pid: int
    started: int
    """What `running_since` says of it."""

    @classmethod
    def of(cls, pid: int) -> "Watched":
        """The process that has this pid now. Raises ProcessLookupError where there is none, or a zombie."""
        started = running_since(pid)
        if started is None:
            raise ProcessLookupError(errno.ESRCH, f"no process {pid}")
        return cls(pid, started)

    @classmethod
    def this(cls) -> "Watched":
        """The calling process."""
        return cls.of(os.getpid())

    @classmethod
    def parent(cls) -> "Watched":
        """The process that started this one."""
        return cls.of(os.getppid())

    @classmethod
    def parse(cls, text: str) -> "Watched":
        """Read `str(watched)` back."""
        pid, started = text.split(":")
        return cls(int(pid), int(started))

    def __str__(self) -> str:
        return f"{self.pid}:{self.started}"

    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return running_since(self.pid) == self.started


def end_with(watched: Watched, every_seconds: float = 0.5) -> None:
    """End this process, from a thread and whatever it is doing, as soon as `watched` has gone."""

    def watch() -> None:
        while watched.alive():
            time.sleep(every_seconds)
        os._exit(_GONE)

    if not watched.alive():
        os._exit(_GONE)
    threading.Thread(target=watch, name="watch-launcher", daemon=True).start()


def kill_tree(pid: int) -> None:
    """End a process and all below it at once, in whatever session they are."""
    try:
        process = psutil.Process(pid)
        tree = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for each in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
