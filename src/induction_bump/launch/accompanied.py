"""The companion as the process that trains sees it: started, listened to, and awaited when the run has ended."""

import os
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from induction_bump.launch.watch import Watched
from induction_bump.records.directory import RunDirectory
from induction_bump.report.options import ReportOptions
from induction_bump.tracking.track import tracking_options

LONGEST_SECONDS = 690.0
"""Time that a companion gets which keeps to no time of its own; those that do, end half a minute before that."""


class Companion:
    """The process beside a run, and what it had to tell."""

    def __init__(self, run: RunDirectory, process: subprocess.Popen[bytes]) -> None:
        self.run, self.process = run, process
        self.left: list[str] = []
        """What it left undone, a line each, once it has ended."""
        self._listening = threading.Thread(
            target=self._listen, args=[process.stdout], name="listen-to-companion", daemon=True
        )
        self._listening.start()

    def end(self, seconds: float = LONGEST_SECONDS) -> None:
        """Wait for its end, and for nothing longer than this."""
        try:
            code = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self._unfinished(f"took more than {seconds:.0f} s and was ended")
        else:
            self._listening.join(1)
            if code:
                self._unfinished(f"was ended by signal {-code}" if code < 0 else f"failed, see {log_of(self.run.path)}")

    def _listen(self, told: IO[bytes]) -> None:
        from tqdm import tqdm  # there may be a bar to write above

        with told:
            for line in told:
                kind, _, text = line.decode(errors="replace").rstrip().partition(" ")
                if kind == "left" and text:
                    self.left.append(text)
                elif kind == "now" and text:
                    tqdm.write(f"{self.run.path.name}: {text}", file=sys.stderr)
                else:  # a library prints
                    self._log(line)

    def _log(self, line: bytes) -> None:
        with suppress(OSError), log_of(self.run.path).open("ab") as log:
            log.write(line)

    def _unfinished(self, how: str) -> None:
        page = [draws(self.run)] if report_options(self.run).live else []
        mirror = [mirrors(self.run)] if _is_mirrored(self.run) else []
        self.left.append("; ".join([f"the companion process {how}", *page, *mirror]))


@contextmanager
def accompanied(run: RunDirectory) -> Generator[Companion | None, None, None]:
    """Keep the process beside the run that mirrors its records; it ends by itself once `run.json` has an outcome.

    None where neither tracking nor a live page is wanted. Raises OSError where no process can be started.
    """
    process = start(run.path)
    companion = Companion(run, process) if process else None
    try:
        yield companion
    except BaseException:
        if companion:  # `run.json` may have no outcome, and then it would wait for one
            companion.process.terminate()
        raise
    finally:
        if companion:
            companion.end()


def start(run_path: Path) -> subprocess.Popen[bytes] | None:
    """Start the companion of the run that this process trains, its log in `<run>/tracking/companion.log`.

    None where neither tracking nor a live page is wanted. Raises OSError where no process can be started.
    """
    run = RunDirectory(run_path)
    if not _is_mirrored(run) and not report_options(run).live:
        return None
    log = log_of(run_path)
    log.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "induction_bump.launch.companion", str(run_path.absolute())]
    # Threads of numerical libraries would compete with training's.
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with log.open("ab") as output:
        return subprocess.Popen(
            [*command, "--parent", str(Watched.this())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            env={**os.environ, **one_thread},
            # A signal to training's group is not for the companion, which has the end of the run to record.
            start_new_session=True,
        )


def log_of(run_path: Path) -> Path:
    """Where a companion logs."""
    return run_path / "tracking" / "companion.log"


def draws(run: RunDirectory) -> str:
    """The command that draws a page anew."""
    return f"`bump report {run.path}` draws it"


def mirrors(run: RunDirectory) -> str:
    """The command that mirrors what is missing."""
    return f"`bump track {run.path}` mirrors the rest"


def report_options(run: RunDirectory) -> ReportOptions:
    """What the run's config says of its page."""
    return run.typed(ReportOptions, "report")


def _is_mirrored(run: RunDirectory) -> bool:
    return tracking_options(run).mode != "none"
