"""One process builds what many want; whoever comes meanwhile waits."""

import fcntl
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from induction_bump.aside import remove_leftovers, replacing


@contextmanager
def locked(path: Path, waiting: str | None = None) -> Generator[None, None, None]:
    """Hold a lock that ends with the process, however it ends, and whose file goes with it where that can be.

    Args: waiting, what to say on the terminal where another process holds it. Raises OSError where there can be no
    such file.
    """
    while True:
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting:
                    print(waiting, file=sys.stderr)
                    waiting = None
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_there(path, file.fileno()):
                continue  # its holder removed the file while we waited: others lock the one that is there now
            try:
                yield
            finally:
                path.unlink(missing_ok=True)  # while it is held
            return


@contextmanager
def whole_or_not_at_all(path: Path) -> Generator[Path, None, None]:
    """Give a file beside `path` to write, which takes its place when the block ends without an error.

    Machines may share the directory. What killed processes of this one have left of such files goes.
    """
    remove_leftovers(path.parent)
    with replacing(path) as aside:
        yield aside


def _is_there(path: Path, descriptor: int) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
