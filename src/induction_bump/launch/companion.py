"""The companion process beside rank 0: mirrors the run's committed records to W&B and keeps its page up to date.

It locates events in what training has committed, on processor time that training leaves over, and nothing that happens
to it, to W&B or to the page can stop or slow the run. W&B's client has a thread of its own: when it hangs, the page
goes on.

    python -m induction_bump.launch.companion RUN --parent PID:STARTED

It ends when the run does, or when its parent does: one last look at the records, a last page, and at most
`CLOSE_SECONDS` for W&B to finish. What was not mirrored by then, `bump track RUN` makes good.
"""

import argparse
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from induction_bump.launch.watch import Watched
from induction_bump.records.directory import RunDirectory
from induction_bump.records.lock import RunBusyError, is_locked
from induction_bump.records.schema import RecordsError
from induction_bump.report.options import ReportOptions
from induction_bump.streams import show_what_can_be_shown
from induction_bump.tracking.track import in_one_line, tracking_options

CLOSE_SECONDS = 60.0
"""Longest time that W&B gets after the run has ended."""

_POLL_SECONDS = 1.0
_NICENESS = 10
_RETRY_SECONDS = (10.0, 30.0, 60.0, 300.0)
_log = logging.getLogger("induction_bump.companion")


def start(run_path: Path) -> subprocess.Popen[bytes] | None:
    """Start the companion of the run that this process trains; it ends once `run.json` has an outcome.

    None where neither tracking nor a live page is wanted. Its output goes to `<run>/tracking/companion.log`.
    Raises OSError where no process can be started.
    """
    run = RunDirectory(run_path)
    if tracking_options(run).mode == "none" and not _report_options(run).live:
        return None
    log = run_path / "tracking" / "companion.log"
    log.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "induction_bump.launch.companion", str(run_path.absolute())]
    # Threads of numerical libraries would compete with training's.
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with log.open("ab") as output:
        return subprocess.Popen(
            [*command, "--parent", str(Watched.this())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **one_thread},
            # A signal to training's group is not for the companion, which has the end of the run to record.
            start_new_session=True,
        )


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
    in_time = accompany(RunDirectory(given.run), given.parent, stop, CLOSE_SECONDS)
    if not in_time:
        # At exit, W&B's client would go on waiting for what it could not finish here.
        os._exit(0)


def accompany(run: RunDirectory, parent: Watched, stop: threading.Event, close_seconds: float) -> bool:
    """Mirror and draw until the run, the parent or the caller ends it.

    Returns whether W&B finished within `close_seconds` of that.
    """
    over = threading.Event()
    warn = _OnceEach()
    derived = _Derived(run, warn)
    mirror = _start_mirror(run, over, warn, close_seconds)
    while not stop.is_set() and parent.alive() and _is_running(run):
        derived.write_if_new()
        stop.wait(_POLL_SECONDS)
    deadline = time.monotonic() + close_seconds
    if parent.alive() or not is_locked(run.path):  # else the next one of a run that goes on already sees to it
        derived.write(live=False)
    over.set()  # only now, so that the last look of the mirror finds the located events
    if mirror is None:
        return True
    mirror.join(max(0.0, deadline - time.monotonic()))
    if mirror.is_alive():
        _log.warning("W&B did not finish within %.0f s; `bump track %s` mirrors the rest", close_seconds, run.path)
        return False
    return True


def _is_running(run: RunDirectory) -> bool:
    try:
        return run.status == "running"
    except RecordsError as error:
        _log.warning("%s", error)
        return False


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
        options = _report_options(run)
        self._page_wanted = options.live
        self._every = options.every_seconds
        self._drawn: tuple[int, ...] | None = None
        self._next = 0.0

    def write_if_new(self) -> None:
        """Rewrite both, where the page is due."""
        if (
            self._page_wanted
            and time.monotonic() >= self._next
            and (state := _committed(self._run.path)) != self._drawn
        ):
            self.write(live=True)
            self._drawn = state
            self._next = time.monotonic() + self._every

    def write(self, live: bool) -> None:
        """Rewrite both. What goes wrong is logged: mirroring and training go on whatever it is."""
        try:
            from induction_bump.locate.run import locate

            if self._run.snapshots():
                # phase changes take seconds: they wait for the end
                locate(self._run.path, changes=not live)
        except Exception as error:
            self._warn(f"the events could not be located: {in_one_line(error)}")
        if not self._page_wanted:
            return
        try:
            from induction_bump.report import page

            page.write(self._run.path, live=live)
        except Exception as error:
            self._warn(f"the page could not be written: {in_one_line(error)}")


def _committed(path: Path) -> tuple[int, ...]:
    """Changes when something new has been committed."""
    places = ("training", "snapshots", "tables", "run.json")
    return tuple(_changed_at(path / place) for place in places)


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _start_mirror(
    run: RunDirectory, over: threading.Event, warn: Callable[[str], None], close_seconds: float
) -> threading.Thread | None:
    """Start mirroring on a thread; None where it is not wanted."""
    if tracking_options(run).mode == "none":
        return None
    thread = threading.Thread(target=_mirror, args=(run, over, warn, close_seconds), name="mirror", daemon=True)
    thread.start()
    return thread


def _mirror(run: RunDirectory, over: threading.Event, warn: Callable[[str], None], close_seconds: float) -> None:
    from induction_bump.tracking.destination import choose
    from induction_bump.tracking.mirror import Mirror

    try:
        destination = choose(tracking_options(run))
    # A login that is missing, or a W&B that cannot even be imported.
    except Exception as error:
        warn(f"not mirrored to W&B: {in_one_line(error)}")
        return
    if destination is None:
        return
    _log.info("mirroring to W&B, %s", destination.label)
    # A killed run that is started again at once finds its first companion still finishing.
    patience = close_seconds / 2
    mirror = Mirror(run, destination, finish_seconds=0.75 * close_seconds, patience=patience)
    seen: tuple[int, ...] | None = None
    failures = 0
    while True:
        last = over.is_set()
        try:
            state = _committed(run.path)
            if last or state != seen:
                mirror.advance()
                seen, failures = state, 0
            if last:
                mirror.close()
                return
            over.wait(_POLL_SECONDS)
        except RunBusyError as error:
            warn(f"not mirrored to W&B yet: {error}")
            if last:
                _log.warning("`bump track %s` mirrors what is missing", run.path)
                return
        # Whatever W&B's client raises: start it anew after a while, and ask W&B how far it got.
        except Exception as error:
            warn(f"W&B: {in_one_line(error)}")
            mirror.abandon()
            seen = None
            if last:
                _log.warning("`bump track %s` mirrors what is missing", run.path)
                return
            over.wait(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
            failures += 1


def _report_options(run: RunDirectory) -> ReportOptions:
    return run.typed(ReportOptions, "report")


if __name__ == "__main__":
    main()
