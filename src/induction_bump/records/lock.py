"""One writer per run: an advisory lock that ends with its process, however it ends."""

import fcntl
import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path


class RunBusyError(RuntimeError):
    """Another live process writes the run."""


class RunLock:
    """An exclusive `flock` on `<run>/lock`, which also names its holder.

    `flock` rather than POSIX record locks: those are lost when any descriptor of the file is closed in the process.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / "lock"
        self._descriptor: int | None = None

    def acquire(self, timeout: float = 30.0) -> None:
        """Take the lock, waiting at most `timeout` seconds. Raises RunBusyError naming host and pid of the holder."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + timeout
        while not _try_lock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                holder = _holder(descriptor)
                os.close(descriptor)
                raise RunBusyError(f"{self.path.parent}: being written by {holder}; waited {timeout:.0f} s")
            time.sleep(0.1)
        self._descriptor = descriptor
        with suppress(OSError):  # on a full disk the lock holds all the same, and its holder has no name
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode(), 0)

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None


def is_locked(run: Path) -> bool:
    """Whether a live process writes the run; asking takes a shared lock for an instant."""
    try:
        descriptor = os.open(run / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError):
        return "a process that has not named itself"
