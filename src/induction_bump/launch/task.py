"""What Hydra calls for each job."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from induction_bump.config.errors import ConfigError
from induction_bump.config.resolve import resolve
from induction_bump.data.errors import CorpusError
from induction_bump.launch import cell
from induction_bump.launch.outcome import Outcome

if TYPE_CHECKING:
    from omegaconf import DictConfig


class Task:
    """Runs what was composed, and remembers how the runs ended, since Hydra passes no result on."""

    def __init__(self, environment: Mapping[str, str], command: Sequence[str]) -> None:
        """`environment` is what workers start from, `command` what the user typed."""
        self.environment = dict(environment)
        self.command = list(command)
        self.outcomes: list[Outcome] = []
        self.started = False

    def __call__(self, composed: "DictConfig") -> Outcome:
        """One run. A user's mistake is an outcome too: Hydra would print the overrides beside an exception."""
        self.started = True
        try:
            outcome = cell.run(resolve(composed), self.environment)
        except (ConfigError, CorpusError) as error:
            outcome = Outcome("", "", "refused", str(error))
        if outcome.status == "failed":
            print(f"{Path(outcome.path).name}: failed", flush=True)
        self.outcomes.append(outcome)
        return outcome
