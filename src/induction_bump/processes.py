"""What tells a process of this machine from all others, those of its pid included."""

import os
import sys
from pathlib import Path

import psutil

_ENDED = (b"Z", b"X")
_START_FIELD = 22 - 4
"""Of what follows the state, the third field."""


def running_since(pid: int) -> int | None:
    """A number that a process has and no later one of its pid, and that no step of the clock moves; None where none
    runs, or a zombie.

    Linux: when it was started, in ticks after the machine booted; elsewhere the number that psutil makes of it.
    """
    if not sys.platform.startswith("linux"):
        try:
            process = psutil.Process(pid)
            # its `create_time` follows the clock, its hash is of what does not
            return None if process.status() == psutil.STATUS_ZOMBIE else hash(process)
        except psutil.NoSuchProcess:
            return None
    try:
        described = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc_pid_stat(5): the second field, a name in parentheses, may hold blanks and parentheses of its own
    state, *further = described[described.rindex(b")") + 1 :].split()
    return None if state in _ENDED else int(further[_START_FIELD])


def is_dead(pid: int, since: int) -> bool:
    """Whether the process that had `pid` and was `running_since` then has ended; False where that cannot be told."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # no system has a pid beyond C's int
        return True
    except PermissionError:
        pass  # another user's
    now = running_since(pid)
    if now is None:  # a zombie, or one that /proc hides from us
        return not sys.platform.startswith("linux") or Path(f"/proc/{pid}").exists()
    return now != since
