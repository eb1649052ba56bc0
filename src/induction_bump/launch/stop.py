"""The request to stop at the next step boundary, on its way from the launcher to the workers.

Only the launcher takes signals. It makes a file in a private directory that its workers know by an environment
variable; a worker that is its own launcher, as a rank of somebody else's torchrun or SLURM job is, takes the signals
itself. A sweep whose cells run beside each other has one directory more, which all of them look at, and the launcher
of the sweep takes the signals for all.
"""

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

DIRECTORY = "BUMP_JOB_DIRECTORY"
"""Environment variable with the private directory of a launcher and its workers."""

SWEEP = "BUMP_SWEEP_DIRECTORY"
"""Environment variable with the private directory of a sweep's launcher and all its cells."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""What asks for a stop: Ctrl-C, schedulers, and schedulers that warn ahead."""

# A scheduler signals every process of a job: SIGUSR2 is what submitit warns with.
_NOT_FOR_WORKERS = (*SIGNALS, signal.SIGUSR2)

_LISTEN_SECONDS = 0.2

_requested = threading.Event()
_left_to_another = threading.Event()
_listening: list[Path] = []


def requested() -> bool:
    """Whether training shall stop at the next step boundary; cheap enough to ask at every step."""
    if _requested.is_set():
        return True
    for variable in (DIRECTORY, SWEEP):
        directory = os.environ.get(variable)
        if directory and (Path(directory) / "stop").exists():
            _requested.set()
            return True
    return False


def request(directory: Path | None = None) -> None:
    """Ask this process to stop, and the workers that know `directory`."""
    _requested.set()
    if directory:
        with suppress(FileNotFoundError):  # of a run that has just ended
            (directory / "stop").touch()


def request_everywhere() -> None:
    """Ask this process to stop, and all workers that it has."""
    request()
    for directory in _listening:
        request(directory)


@contextmanager
def taking_signals(directory: Path | None, at_once: Callable[[], object]) -> Generator[None, None, None]:
    """Turn the first signal into a request and a second Ctrl-C into `at_once()`.

    Idle outside the main thread, and where signals were left to another process or package.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        _take(number, directory, at_once)

    if directory:
        _listening.append(directory)
    try:
        if _left_to_another.is_set() or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, handle) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    finally:
        if directory:
            _listening.remove(directory)


@contextmanager
def taking_signals_apart(directory: Path, at_once: Callable[[], object]) -> Generator[None, None, None]:
    """As `taking_signals`, from a thread, so that processes which the main thread starts meanwhile hold signals back.

    Libraries start processes that nothing may be done to before they run; a Ctrl-C reaches the whole group.
    """
    if not hasattr(signal, "sigtimedwait"):  # macOS: there, a process that has only just started may be ended
        with taking_signals(directory, at_once):
            yield
        return
    over = threading.Event()

    def listen() -> None:
        # Asked without waiting: Python makes up a signal where a wait was suspended, as by Ctrl-Z, beyond its end.
        while not over.wait(_LISTEN_SECONDS):
            while taken := signal.sigtimedwait(SIGNALS, 0):
                _take(taken.si_signo, directory, at_once)

    # The handlers are for threads from before, which do not hold back what the system may hand to any of them.
    with taking_signals(directory, at_once), held_back():
        thread = threading.Thread(target=listen, name="take-signals", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _take(number: int, directory: Path | None, at_once: Callable[[], object]) -> None:
    if number == signal.SIGINT and _requested.is_set():
        at_once()
    request(directory)


def leave_signals() -> None:
    """Take no signals in this process: another one passes them on, or a package that has handlers of its own here."""
    _left_to_another.set()


def ignore_signals() -> None:
    """Leave signals to the launcher, also those that a scheduler sends to every process of a job."""
    for number in _NOT_FOR_WORKERS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _NOT_FOR_WORKERS)


@contextmanager
def held_back() -> Generator[None, None, None]:
    """Block these signals in this thread, and in every process that is started meanwhile until it ignores them.

    So none of them can end a process that has not come to `ignore_signals` yet, or torchrun, which never does.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_WORKERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
