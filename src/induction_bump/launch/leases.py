"""Devices of this machine, each lent to one cell at a time by a lock that ends with its process, however it ends.

A lock is a file in a directory of the user on this machine, so that all sweeps of the user share the devices. Who asks
first is served first: a cell that wants eight devices does not wait for ever while others take single ones.
"""

import errno
import fcntl
import os
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from induction_bump.data.cores import available_cores

Kind = Literal["gpu", "core"]

DIRECTORY = "BUMP_LEASES"
"""Environment variable with another directory for the locks: sweeps that have different ones do not share devices."""

_POLL_SECONDS = 0.2
_QUERY = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
_QUERY_SECONDS = 30


@dataclass(frozen=True)
class Machine:
    """What there is to lend, within what this process may use."""

    gpus: tuple[str, ...]
    """CUDA devices, as CUDA_VISIBLE_DEVICES takes them."""
    cores: tuple[str, ...]
    """Numbers of the CPU cores."""

    @classmethod
    def this(cls, environment: Mapping[str, str] = os.environ) -> "Machine":
        """This machine; loads no torch."""
        allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(available_cores())
        return cls(_gpus(environment), tuple(map(str, list(allowed)[: available_cores()])))

    def there(self, kind: Kind) -> tuple[str, ...]:
        """The devices of a kind."""
        return self.gpus if kind == "gpu" else self.cores


def _gpus(environment: Mapping[str, str]) -> tuple[str, ...]:
    """CUDA devices that this process sees, by UUID where the driver tells: a number means what others make of it."""
    try:
        said = subprocess.run(_QUERY, capture_output=True, text=True, check=True, timeout=_QUERY_SECONDS).stdout
        known = dict(line.split(", ", 1) for line in said.splitlines() if ", " in line)
    except (OSError, subprocess.SubprocessError):
        known = {}
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(known.values())
    found: list[str] = []
    for name in map(str.strip, visible.split(",")):
        if not name or name == "-1" or (known and name.isdigit() and name not in known):
            break  # CUDA sees nothing from the first wrong one on
        found.append(known.get(name, name))
    return tuple(found)


def directory() -> Path:
    """Where the locks of this user on this machine lie. Raises OSError where it belongs to somebody else."""
    shared = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())
    path = Path(os.environ.get(DIRECTORY) or shared / f"induction-bump-{os.getuid()}")
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(errno.EPERM, "is not a directory of this user", str(path))
    return path


@contextmanager
def lent(
    kind: Kind, devices: Sequence[str], count: int, stopped: Callable[[], bool], where: Path | None = None
) -> Generator[list[str] | None, None, None]:
    """Hold `count` of the devices for as long as the block runs; None where `stopped` came before they were free.

    Args: where, the directory of the locks; the user's own by default.
    """
    assert 0 < count <= len(devices)
    where = where or directory()
    with ExitStack() as held:
        yield _await(held, where, kind, devices, count, stopped)


def _await(
    held: ExitStack, where: Path, kind: Kind, devices: Sequence[str], count: int, stopped: Callable[[], bool]
) -> list[str] | None:
    taken: list[str] = []
    with ExitStack() as turn:
        waiting = not _lock(turn, where / f"{kind}s")  # the one who is served
        while waiting or len(taken) < count:
            if stopped():
                return None
            if waiting:
                waiting = not _lock(turn, where / f"{kind}s")
            else:
                for name in devices:
                    if len(taken) < count and name not in taken and _lock(held, where / _file_name(kind, name)):
                        taken.append(name)
            if waiting or len(taken) < count:
                time.sleep(_POLL_SECONDS)
    return taken


def _file_name(kind: Kind, device: str) -> str:
    return f"{kind}-{device.replace('/', '_')}"


def _lock(held: ExitStack, path: Path) -> bool:
    """Lock a file until `held` is left, if nobody else has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)  # not passed on to what is started
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    held.callback(os.close, descriptor)
    return True
