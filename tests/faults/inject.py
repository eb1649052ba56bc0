"""Faults at the calls by which a run or a cache is written: what to do at the n-th of them.

The calls are those of the standard library and of the libraries that write files, patched from outside, so that the
narrow windows between a write, its flush and its rename are really hit.
"""

import errno
import io
import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from induction_bump.training import weights

Kind = Literal["none", "kill-before", "kill-after", "disk-full"]


@dataclass(frozen=True)
class Fault:
    """What happens at one call."""

    kind: Kind = "none"
    at: int = -1
    """Number of the call, from 0."""


class Injector:
    """Counts the calls that write below some directories, names each, and does `fault` at one of them."""

    def __init__(self, fault: Fault, below: list[Path], log: Path | None = None) -> None:
        self.fault, self.log = fault, log
        self.below = [str(path) for path in below]
        self.count = 0
        self.busy = False
        self.process = os.getpid()

    def install(self) -> None:
        """Patch this process for good."""
        for module, name in (
            (os, "fsync"),
            (os, "replace"),
            (os, "rename"),
            (os, "unlink"),
            (os, "mkdir"),
            (shutil, "rmtree"),
            (io, "open"),
            (pq, "write_table"),
            (weights, "save_file"),
        ):
            setattr(module, name, self.around(name, getattr(module, name)))

    def around(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        """The call with what happens to it."""

        def call(*arguments: Any, **named: Any) -> Any:
            where = self.where(name, arguments, named)
            # what a call does inside is a part of it; a process that was started from here has faults of its own
            if where is None or self.busy or os.getpid() != self.process:
                return original(*arguments, **named)
            number, self.count = self.count, self.count + 1
            if self.log:
                with os.fdopen(os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "w") as log:
                    log.write(f"{name} {where}\n")
            if number == self.fault.at and self.fault.kind == "kill-before":
                os.kill(os.getpid(), signal.SIGKILL)
            if number == self.fault.at and self.fault.kind == "disk-full" and name not in ("unlink", "rmtree"):
                # the system names the file where it is given a name
                names = [os.fspath(arguments[0])] if name in ("open", "mkdir", "replace", "rename") else []
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *names)
            self.busy = True
            try:
                return original(*arguments, **named)
            finally:
                self.busy = False
                if number == self.fault.at and self.fault.kind == "kill-after":
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    def where(self, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> str | None:
        """What is written, its writer left out; None where it is none of ours, or only read."""
        if name == "open":
            mode = named.get("mode", arguments[1] if len(arguments) > 1 else "r")
            if not set(mode) & set("wax+"):
                return None
        target = arguments[1] if name in ("write_table", "save_file") else arguments[0]
        if name == "fsync":
            target = Path(f"/proc/self/fd/{target}").readlink()
        if not isinstance(target, str | os.PathLike):
            return None
        path = os.fspath(target)
        for directory in self.below:
            if path.startswith(directory):
                return re.sub(r"(\.[^./]+){4}\.tmp", ".tmp", path.removeprefix(directory))
        return None
