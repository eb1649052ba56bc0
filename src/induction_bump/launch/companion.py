"""The companion process beside rank 0: mirrors the run's committed records to W&B and keeps its page up to date.

It locates events in what training has committed, on processor time that training leaves over, and nothing that happens
to it, to W&B or to the page can stop or slow the run. W&B's client has a thread of its own: when it hangs, the page
goes on.

    python -m induction_bump.launch.companion RUN --parent PID:STARTED

It ends when the run does, or when its parent does: one last look at the records and a last page, for which it takes up
to `LAST_PAGE_SECONDS`, or `STOPPED_PAGE_SECONDS` and no phase changes where the run is not finished, and then at most
`CLOSE_SECONDS` for W&B to finish. What a person should know goes to stdout, a line each as `launch.accompanied` reads
it; the rest is a log, on stderr.
"""

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from induction_bump.launch.accompanied import draws, mirrors, report_options
from induction_bump.launch.mirroring import Mirroring, committed
from induction_bump.launch.watch import Watched
from induction_bump.records.directory import RunDirectory
from induction_bump.records.lock import is_locked
from induction_bump.records.schema import RecordsError
from induction_bump.streams import show_what_can_be_shown
from induction_bump.tracking.track import in_one_line

CLOSE_SECONDS = 60.0
"""Longest time that W&B gets from when it is asked to finish, which is after the last page of a run that has ended."""

LAST_PAGE_SECONDS = 600.0
"""Longest time that locating and the last page get."""

STOPPED_PAGE_SECONDS = 60.0
"""The same of a run that is not finished: whoever stopped it waits for it, and so does the one that goes on with it."""

_POLL_SECONDS = 1.0
_NICENESS = 10
_log = logging.getLogger("induction_bump.companion")


def main(arguments: list[str] | None = None) -> None:
    """Accompany a run until it ends."""
    show_what_can_be_shown()
    parser = argparse.ArgumentParser(prog="python -m induction_bump.launch.companion", description=__doc__)
    parser.add_argument("run", type=Path, help="the run's directory")
    parser.add_argument("--parent", type=Watched.parse, required=True, help="process to end with, as PID:STARTED")
    given = parser.parse_args(arguments)
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    logging.captureWarnings(True)
    run = RunDirectory(given.run)
    left = accompany(run, given.parent, stop, partial(_tell, "now"), CLOSE_SECONDS, LAST_PAGE_SECONDS)
    for each in left:
        _log.warning("left undone: %s", each)
        _tell("left", each)
    if left:
        # At exit, W&B's client would go on waiting for what it could not finish here.
        os._exit(0)


def _tell(kind: str, line: str) -> None:
    with contextlib.suppress(OSError):  # whoever listened has gone
        print(f"{kind} {line}", flush=True)


def accompany(
    run: RunDirectory,
    parent: Watched,
    stop: threading.Event,
    say: Callable[[str], object],
    close_seconds: float = CLOSE_SECONDS,
    last_page_seconds: float = LAST_PAGE_SECONDS,
) -> list[str]:
    """Mirror and draw until the run, the parent or the caller ends it.

    `say` is told, while the run goes on, what it can do nothing about. Returns what was left undone, a line each with
    the command that makes it good.
    """
    left: list[str] = []
    warn = _OnceEach()
    derived = _Derived(run, warn)
    mirroring = Mirroring.start(run, warn, say, close_seconds)
    while not stop.is_set() and parent.alive() and _status(run, warn) == "running":
        derived.write_if_new()
        stop.wait(_POLL_SECONDS)
    if parent.alive() or not is_locked(run.path):  # else the next one of a run that goes on already sees to it
        finished = _status(run, warn) == "finished"
        seconds = last_page_seconds if finished else min(last_page_seconds, STOPPED_PAGE_SECONDS)
        last = threading.Thread(
            target=lambda: left.extend(derived.write(live=False, changes=finished)), name="last-page", daemon=True
        )
        last.start()
        last.join(seconds)
        if last.is_alive():
            left.append(f"the last page was not drawn within {seconds:.0f} s; {draws(run)}")
    # W&B is asked only now, so that it gets the located events too, and has its time whatever they took
    if mirroring and (problem := mirroring.finish()):
        left.append(f"{problem}; {mirrors(run)}")
    return left


def _status(run: RunDirectory, warn: Callable[[str], None]) -> str | None:
    """None where it cannot be read."""
    try:
        return run.status
    except RecordsError as error:
        warn(str(error))
        return None


class _OnceEach:
    """Logs each message once, so that an outage of hours is one line."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            _log.warning("%s", message)


class _Derived:
    """What is derived from the records, the located events and the page, rewritten when something new was committed."""

    def __init__(self, run: RunDirectory, warn: Callable[[str], None]) -> None:
        self._run = run
        self._warn = warn
        options = report_options(run)
        self._page_wanted = options.live
        self._every = options.every_seconds
        self._drawn: tuple[int, ...] | None = None
        self._next = 0.0

    def write_if_new(self) -> None:
        """Rewrite both, where the page is due."""
        if self._page_wanted and time.monotonic() >= self._next and (state := committed(self._run.path)) != self._drawn:
            self.write(live=True, changes=False)
            self._drawn = state
            self._next = time.monotonic() + self._every

    def write(self, live: bool, changes: bool) -> list[str]:
        """Rewrite both, with phase changes, which take seconds, where those are wanted. What goes wrong is logged, and
        returned with the command that makes it good: mirroring and training go on whatever it is."""
        problems: list[str] = []
        try:
            from induction_bump.locate.run import locate

            if self._run.snapshots():
                locate(self._run.path, changes=changes)
        except Exception as error:
            problem = f"the events could not be located: {in_one_line(error)}"
            self._warn(problem)
            problems.append(f"{problem}; `bump locate {self._run.path}` looks again")
        if self._page_wanted:
            try:
                from induction_bump.report import page

                page.write(self._run.path, live=live)
            except Exception as error:
                problem = f"the page could not be written: {in_one_line(error)}"
                self._warn(problem)
                problems.append(f"{problem}; {draws(self._run)}")
        return problems


if __name__ == "__main__":
    main()
