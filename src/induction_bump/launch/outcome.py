"""How a run ended, and what that means for the exit code of the command."""

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Ending = Literal["finished", "skipped", "preempted", "failed", "refused", "busy", "waiting"]

PREEMPTED = 75
"""Exit code that tells a scheduler to try again."""

_CODES: dict[Ending, int] = {
    "finished": 0,
    "skipped": 0,
    "failed": 1,
    "busy": 1,
    "refused": 2,
    "preempted": PREEMPTED,
    "waiting": PREEMPTED,
}


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    run_id: str
    path: str
    """The run's directory, absolute."""
    status: Ending
    """`skipped`: it was finished before; `refused`: a user's mistake; `busy`: another process trains it; `waiting`: a
    stop came before its turn."""
    message: str | None = None
    """Why it failed, was refused or not begun, in one or two lines."""
    recorded: bool = False
    """Whether `run.json` says so already."""
    left: tuple[str, ...] = ()
    """What of its mirror or page is missing, a line each, with the command that makes it good."""

    @property
    def code(self) -> int:
        """Exit code for this run alone."""
        return _CODES[self.status]


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """Of several runs: 75 where a stop left work to do, else 1 where one failed, else what they share."""
    codes = {outcome.code for outcome in outcomes}
    return next((code for code in (PREEMPTED, 1, 2) if code in codes), 0)


def explain_failure(error: BaseException) -> str:
    """An exception in one line for `run.json` and the terminal; its traceback goes to `log.txt`."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"disk full: cannot write {error.filename or ''}".rstrip()
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return f"read-only file system: cannot write {error.filename or ''}".rstrip()
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    text = (str(error).splitlines() or [""])[0]
    ours = type(error).__module__.startswith("induction_bump.")
    return text if ours and text else f"{type(error).__name__}: {text}" if text else type(error).__name__
