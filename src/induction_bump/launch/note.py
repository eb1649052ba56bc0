"""What a worker has to tell its launcher where `run.json` cannot: that it did not start, or could not write, or mirror.

The first note counts. Workers that find one end too, so that no rank waits for another that has given up.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from induction_bump.aside import aside_of
from induction_bump.launch.outcome import Ending

_NAME = "note"


@dataclass(frozen=True)
class Note:
    """Why a worker ended."""

    message: str | None
    """One or two lines."""
    status: Ending = "failed"
    """What became of the run, so far as this worker is concerned."""
    left: tuple[str, ...] = ()
    """As `Outcome.left`."""

    def leave(self, directory: Path) -> None:
        """Write it, unless another worker was first."""
        aside = aside_of(directory / _NAME)
        aside.write_text(json.dumps(asdict(self)), encoding="utf-8")
        try:
            (directory / _NAME).hardlink_to(aside)
        except FileExistsError:
            return
        finally:
            aside.unlink()


def find(directory: Path) -> Note | None:
    """The note that was left in `directory`, if there is one."""
    try:
        found = json.loads((directory / _NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Note(**found | {"left": tuple(found["left"])})
