"""Where files and directories lie until they are whole, and what becomes of those whose writer was killed.

    .<name>.<host>.<processes>.<pid>-<since>.<random>.tmp       a writer in a table of processes, and one of its writes

The table of processes is named by the kernel's boot and the PID namespace: two containers may have equal host names and
pids, and a machine that was booted again has all of its pids anew. What another table's writer has left is never
removed, since nothing here tells whether it still writes: an old one is told of.
"""

import hashlib
import logging
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from induction_bump.processes import is_dead, running_since

OLD_SECONDS = 24 * 3600.0
"""After so long without a change, what another machine has left is told of."""

_LONGEST_NAME = 60
"""Bytes of a name that are shown; a file's own has room for 255."""
_LEFT = re.compile(r"\.(?P<host>[\w-]+)\.(?P<table>[0-9a-f]{12})\.(?P<pid>\d+)-(?P<since>-?\d+)\.[0-9a-f]{8}\.tmp$")
_log = logging.getLogger(__name__)


def aside_of(path: Path) -> Path:
    """A place beside `path` that no other call gives, in whatever thread, process, container or machine."""
    pid = os.getpid()
    writer = f"{_host()}.{_table()}.{pid}-{running_since(pid)}"
    name = os.fsencode(path.name)[:_LONGEST_NAME].decode(errors="ignore")
    return path.with_name(f".{name}.{writer}.{secrets.token_hex(4)}.tmp")


@contextmanager
def replacing(path: Path) -> Generator[Path, None, None]:
    """Give a file beside `path` to write, which takes its place when the block ends without an error.

    An OSError of the block names `path` where it names nothing, or the file beside it.
    """
    aside = aside_of(path)
    with named_in_errors(path, aside):
        try:
            yield aside
            with aside.open("rb") as written:
                os.fsync(written.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


@contextmanager
def named_in_errors(path: Path, aside: Path) -> Generator[None, None, None]:
    """Let an error of the system be about `path` where it does not say which file it is about, or names `aside`."""
    try:
        yield
    except OSError as error:
        # what a write to an open file raises on a full disk knows no name
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        elif isinstance(error.filename, str) and (name := Path(error.filename)).is_relative_to(aside):
            error.filename = str(path / name.relative_to(aside))
        raise


def remove_leftovers(directory: Path) -> None:
    """Delete what killed processes of this machine have left aside in `directory`; old ones of others are told of."""
    for entry in directory.glob(".*.tmp"):
        found = _LEFT.search(entry.name)
        if found and found["table"] == _table():
            if is_dead(int(found["pid"]), int(found["since"])):
                remove(entry)
        elif _untouched_for(entry) > OLD_SECONDS:
            _tell(entry, f"a writer on {found['host']}" if found else "an unknown writer")


def remove(path: Path) -> None:
    """Delete a file or a directory, as far as that can be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


@cache
def _tell(path: Path, writer: str) -> None:
    """Once a process."""
    _log.warning("%s was left by %s; remove it where that no longer runs", path, writer)


def _untouched_for(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:  # its writer was about to end
        return 0.0


@cache
def _host() -> str:
    return re.sub(r"[^\w-]", "-", socket.gethostname(), flags=re.ASCII)[:_LONGEST_NAME] or "host"


@cache
def _table() -> str:
    """Twelve hexadecimal digits for the table of processes that pids of this process count in."""
    seen = [socket.gethostname()]
    with suppress(OSError):
        seen.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with suppress(OSError):
        seen.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()[:12]
