"""Mirroring a run to W&B on a thread, so that a client that hangs holds up nothing but itself."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from induction_bump.records.directory import RunDirectory
from induction_bump.records.lock import RunBusyError
from induction_bump.tracking.track import in_one_line, tracking_options

_POLL_SECONDS = 1.0
_RETRY_SECONDS = (10.0, 30.0, 60.0, 300.0)
_log = logging.getLogger("induction_bump.companion")


class Mirroring:
    """Repeats to W&B what a run has committed, until it is told to finish."""

    def __init__(
        self, run: RunDirectory, warn: Callable[[str], object], say: Callable[[str], object], close_seconds: float
    ) -> None:
        """`warn` logs; `say` tells a person, once, that W&B does not take what it is given."""
        self._run, self._warn, self._say, self._close_seconds = run, warn, say, close_seconds
        self._over = threading.Event()
        self._problem: str | None = None
        self._said = False
        self._thread = threading.Thread(target=self._mirror, name="mirror", daemon=True)

    @classmethod
    def start(
        cls, run: RunDirectory, warn: Callable[[str], object], say: Callable[[str], object], close_seconds: float
    ) -> "Mirroring | None":
        """Start it; None where it is not wanted."""
        if tracking_options(run).mode == "none":
            return None
        mirroring = cls(run, warn, say, close_seconds)
        mirroring._thread.start()
        return mirroring

    def finish(self) -> str | None:
        """Have a last look at the records, and let W&B finish; returns why it does not have everything, if so.

        Takes at most `close_seconds`.
        """
        self._over.set()
        self._thread.join(self._close_seconds)
        if self._thread.is_alive():
            return f"W&B did not finish within {self._close_seconds:.0f} s"
        return self._problem

    def _fails(self, what: str) -> None:
        self._problem = what
        self._warn(what)
        if not self._said and not self._over.is_set():
            self._said = True
            self._say(f"{what}; the run goes on")

    def _mirror(self) -> None:
        from induction_bump.tracking.destination import choose
        from induction_bump.tracking.mirror import Mirror

        try:
            destination = choose(tracking_options(self._run))
        # A login that is missing, or a W&B that cannot even be imported.
        except Exception as error:
            self._fails(f"not mirrored to W&B: {in_one_line(error)}")
            return
        if destination is None:
            return
        _log.info("mirroring to W&B, %s", destination.label)
        # A killed run that is started again at once finds its first companion still finishing.
        patience = self._close_seconds / 2
        mirror = Mirror(self._run, destination, finish_seconds=0.75 * self._close_seconds, patience=patience)
        seen: tuple[int, ...] | None = None
        failures = 0
        while True:
            last = self._over.is_set()
            try:
                state = committed(self._run.path)
                if last or state != seen:
                    mirror.advance()
                    seen, failures, self._problem = state, 0, None
                if last:
                    mirror.close()
                    return
                self._over.wait(_POLL_SECONDS)
            except RunBusyError as error:
                self._fails(f"not mirrored to W&B yet: {error}")
                if last:
                    return
            # Whatever W&B's client raises: start it anew after a while, and ask W&B how far it got.
            except Exception as error:
                self._fails(f"not mirrored to W&B: {in_one_line(error)}")
                mirror.abandon()
                seen = None
                if last:
                    return
                self._over.wait(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
                failures += 1


def committed(path: Path) -> tuple[int, ...]:
    """Changes when something new has been committed."""
    places = ("training", "snapshots", "tables", "run.json")
    return tuple(_changed_at(path / place) for place in places)


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
