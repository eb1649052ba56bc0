"""Checkpoints of a run: `checkpoints/00000640/` holds all that training needs to go on after step 640.

    state.pt    what training saved
    sha256      its checksum, as `sha256sum -c sha256` reads it

The last two are kept. A checkpoint appears and goes whole; one that the disk has damaged is told by its checksum, and
one with weights or moments that are not finite is as good as damaged: nothing comes of going on from it.
"""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from induction_bump.records.files import directory_that_appears_whole, made, name_of, numbered, remove_whole
from induction_bump.records.state_file import not_finite

KEPT = 2
"""The one before the last is what a damaged last one is replaced by."""

_STATE, _CHECKSUM = "state.pt", "sha256"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """The state of training after a step."""

    step: int
    path: Path

    @property
    def state(self) -> Path:
        """The file that holds it."""
        return self.path / _STATE

    def damage(self) -> str | None:
        """What is wrong with it, in one line; None where it is what was written, and training can go on from it.

        Raises OSError where it cannot be read now: what a disk or a server refuses for a moment may be intact.
        """
        try:
            written = (self.path / _CHECKSUM).read_text(encoding="ascii").split()[0]
            with self.state.open("rb") as data:
                found = hashlib.file_digest(data, "sha256").hexdigest()
        except (FileNotFoundError, ValueError, IndexError) as error:
            return f"{type(error).__name__}: {error}"
        if found != written:
            return "its sha256 is another"
        broken = not_finite(self.state)
        return f"{broken} is not finite" if broken else None


def checkpoints(run: Path) -> list[Checkpoint]:
    """What lies in a run's directory, damaged or not, in order of steps."""
    return [Checkpoint(step, path) for step, path in numbered(run / "checkpoints")]


def newest_intact(run: Path) -> Checkpoint | None:
    """The last checkpoint that training can go on from; later ones are named in a warning. Changes nothing."""
    left = checkpoints(run)
    while left:
        checkpoint = left.pop()
        damage = checkpoint.damage()
        if damage is None:
            return checkpoint
        instead = "the one before it is used" if left else "there is none before it"
        _log.warning("checkpoint %s is damaged (%s); %s", checkpoint.path, damage, instead)
    return None


def write_checkpoint(run: Path, step: int, write: Callable[[Path], str]) -> None:
    """Commit a checkpoint and remove all but the last two.

    `write` fills a file and returns the sha256 of what it wrote, hashed on the way so that a disk cannot vouch for
    itself. A checkpoint of that step that is there already stays.
    """
    directory = made(run / "checkpoints")
    if not (directory / name_of(step)).exists():
        with directory_that_appears_whole(directory / name_of(step)) as aside:
            digest = write(aside / _STATE)
            (aside / _CHECKSUM).write_text(f"{digest}  {_STATE}\n", encoding="ascii")
    for old in checkpoints(run)[:-KEPT]:
        remove_whole(old.path)


def remove_checkpoints_after(run: Path, step: int) -> None:
    """Remove what is later than `step`."""
    for checkpoint in checkpoints(run):
        if checkpoint.step > step:
            remove_whole(checkpoint.path)
