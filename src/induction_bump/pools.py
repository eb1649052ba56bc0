"""Processes that work for this one, wherever it was started: by `bump`, a script, a notebook or `python -c`.

Notable features:
- they do not run the caller's script again, so a script needs no `if __name__ == "__main__"`;
- they end with the process that started them, however that ends;
- one that is lost, killed for want of memory perhaps, is one line and no traceback.
"""

import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, parent_process, spawn
from multiprocessing.context import ForkServerContext, ForkServerProcess, SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from typing import Any

_SCRIPT = ("init_main_from_name", "init_main_from_path")
_LOST = "was killed (out of memory?): free some memory, or use fewer cores, and try again"
_starting = threading.Lock()


class WorkerLostError(RuntimeError):
    """A process of a pool ended before its work was done; one line."""


@contextmanager
def process_pool(
    processes: int, does: str, prepare: Callable[..., object] | None = None, *arguments: Any, lost: str = _LOST
) -> Generator[ProcessPoolExecutor, None, None]:
    """A pool of new processes, each of which calls `prepare` first. Leaving it ends what has not begun.

    Forking a process that has threads is not safe, so none is forked. What it runs must be importable.
    Args: does, what they do, as in "a process that … was killed"; lost, how that sentence ends where one was lost.
    Raises WorkerLostError where one was lost.
    """
    pool = ProcessPoolExecutor(processes, SPAWN, initializer=_begin, initargs=(prepare, arguments))
    try:
        yield pool
    except BrokenProcessPool as error:
        raise WorkerLostError(f"a process that {does} {lost}") from error
    finally:
        pool.shutdown(cancel_futures=True)


def end_with_parent() -> None:
    """From now on this process ends when its parent does, however that ends.

    A worker of a pool outlives a parent that was killed: it waits on a pipe whose other end it holds itself.
    """
    threading.Thread(target=_wait, daemon=True).start()


def _begin(prepare: Callable[..., object] | None, arguments: tuple[Any, ...]) -> None:
    end_with_parent()
    if prepare:
        prepare(*arguments)


def _wait() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _start_without_script(start: Callable[[Any], Any], process: BaseProcess) -> Any:
    """Start a process that is not told which script this one runs; it would run it before anything else."""
    with _starting:
        described = spawn.get_preparation_data
        spawn.get_preparation_data = lambda name: {  # what both ways of starting ask for the description
            key: value for key, value in described(name).items() if key not in _SCRIPT
        }
        try:
            return start(process)
        finally:
            spawn.get_preparation_data = described


class _Spawned(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:  # noqa: N802
        return _start_without_script(SpawnProcess._Popen, process_obj)


class _ForkServed(ForkServerProcess):
    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:  # noqa: N802
        return _start_without_script(ForkServerProcess._Popen, process_obj)


class _Spawn(SpawnContext):
    Process = _Spawned


class _ForkServer(ForkServerContext):
    Process = _ForkServed


SPAWN = _Spawn()
"""Context of `multiprocessing` whose processes do not run the caller's script again."""
FORKSERVER = _ForkServer()
"""The same for processes that are forked from one without threads."""
