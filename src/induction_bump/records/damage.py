"""What is damaged or stale among records: left out of what is read, and said in a line."""

import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager


class RecordsWarning(UserWarning):
    """Something was left out of what was read of records; the message, one line, says what and why."""


def warn(message: object) -> None:
    """Say what was left out, to whoever asked for records."""
    warnings.warn(str(message), RecordsWarning, stacklevel=3)


@contextmanager
def said_once(say: Callable[[str], object]) -> Generator[None, None, None]:
    """Let `say` have each RecordsWarning of the block once, in place of how Python shows warnings."""
    said = set[str]()
    with warnings.catch_warnings():
        warnings.simplefilter("always", RecordsWarning)
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: object, **more: object) -> None:
            if not issubclass(category, RecordsWarning):
                shown(message, category, *where, **more)  # type: ignore[arg-type]
            elif str(message) not in said:
                said.add(str(message))
                say(str(message))

        warnings.showwarning = show
        yield
