"""How far a run has been mirrored, in `<run>/tracking/cursor.json`."""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from induction_bump.records.files import replace_atomically

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cursor:
    """What has been handed to W&B's client.

    The client keeps no promise about what it holds when it is killed. Only a cursor with `closed` may be believed;
    otherwise W&B itself is asked how far it got.
    """

    generation: int = 0
    """Start of the run that it counts in; 0 before the first."""
    destination: str = ""
    """Where the rows went: `Destination.label`."""
    training_step: int | None = None
    """Last training step handed over."""
    snapshot_step: int | None = None
    """Last snapshot handed over."""
    located: str = ""
    """Digest of the located events in the summary."""
    closed: bool = False
    """Whether W&B's client finished in order after this."""
    exit_code: int | None = None
    """How the W&B run was last closed: 0 for a run that had finished, 1 for any other."""
    pid: int = 0
    """The process that hands rows over."""

    @property
    def step(self) -> int | None:
        """Every row up to this step has been handed over."""
        steps = [step for step in (self.training_step, self.snapshot_step) if step is not None]
        return max(steps, default=None)


def read_cursor(path: Path) -> Cursor:
    """The cursor at `path`; a fresh one where there is none or it cannot be read."""
    try:
        return Cursor(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Cursor()
    except (OSError, ValueError, TypeError) as error:
        _log.warning("%s is unreadable (%s); asking W&B how far it got", path, error)
        return Cursor()


def write_cursor(path: Path, cursor: Cursor) -> None:
    """Replace the cursor at `path` atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(cursor), indent=2) + "\n"
    replace_atomically(path, lambda aside: aside.write_text(text, encoding="utf-8"))
