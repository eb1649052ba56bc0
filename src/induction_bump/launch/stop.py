"""The request to stop at the next step boundary, on its way from the launcher to the workers.

Only the launcher takes signals. It makes a file in a private directory that its workers know by an environment
variable; a worker that is its own launcher, as a rank of somebody else's torchrun or SLURM job is, takes the signals
itself.
"""

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

DIRECTORY = "BUMP_JOB_DIRECTORY"
"""Environment variable with the private directory of a launcher and its workers."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""What asks for a stop: Ctrl-C, schedulers, and schedulers that warn ahead."""

_requested = threading.Event()


def requested() -> bool:
    """Whether training shall stop at the next step boundary; cheap enough to ask at every step."""
    if _requested.is_set():
        return True
    directory = os.environ.get(DIRECTORY)
    if directory and (Path(directory) / "stop").exists():
        _requested.set()
    return _requested.is_set()


def request(directory: Path | None = None) -> None:
    """Ask this process to stop, and the workers that know `directory`."""
    _requested.set()
    if directory:
        (directory / "stop").touch()


@contextmanager
def taking_signals(directory: Path | None, at_once: Callable[[], object]) -> Generator[None, None, None]:
    """Turn the first signal into a request and a second Ctrl-C into `at_once()`; idle outside the main thread."""

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and _requested.is_set():
            at_once()
        request(directory)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Leave signals to the launcher, also those that a scheduler sends to every process of a job."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
