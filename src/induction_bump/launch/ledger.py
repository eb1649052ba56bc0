"""What the cells of a sweep have come to, told by the processes that run them through files in a shared directory.

A process that is killed returns nothing, and takes with it what others had returned through the same channel.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from induction_bump.launch.outcome import Outcome
from induction_bump.records.files import replace_atomically


@dataclass(frozen=True)
class Ledger:
    """Begun and ended cells, by their number in the sweep."""

    directory: Path

    def begin(self, number: int) -> None:
        """Note that a cell is no longer waiting."""
        (self.directory / f"{number}.begun").touch()

    def end(self, number: int, outcome: Outcome) -> None:
        """Note how it ended."""
        text = json.dumps(asdict(outcome))
        replace_atomically(self.directory / f"{number}.json", lambda path: path.write_text(text, encoding="utf-8"))

    def forget(self, number: int) -> None:
        """Take a cell as one that has not begun."""
        for end in ("begun", "json"):
            (self.directory / f"{number}.{end}").unlink(missing_ok=True)

    def begun(self, number: int) -> bool:
        """Whether it was begun."""
        return (self.directory / f"{number}.begun").exists()

    def outcome(self, number: int) -> Outcome | None:
        """How it ended; None where that is not known."""
        try:
            found = json.loads((self.directory / f"{number}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return Outcome(**found | {"left": tuple(found["left"])})
