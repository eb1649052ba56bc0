"""What Hydra calls once a run, in whatever process its launcher chose."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from induction_bump.config.errors import ConfigError
from induction_bump.config.identity import slug
from induction_bump.config.resolve import resolve
from induction_bump.data.errors import CorpusError
from induction_bump.launch import cell
from induction_bump.launch.outcome import Outcome, explain_failure
from induction_bump.records.schema import RecordsError
from induction_bump.training.options import RunConfig

if TYPE_CHECKING:
    from omegaconf import DictConfig


class Task:
    """Runs what was composed, and remembers how the runs ended, since Hydra passes no result on."""

    def __init__(self, environment: Mapping[str, str], command: Sequence[str]) -> None:
        """`environment` is what workers start from, `command` what the user typed."""
        self.environment = dict(environment)
        self.command = list(command)
        self.wait: float | None = None
        """Seconds that another writer of a run is awaited; None for the usual."""
        self.own_terminal = True
        """Whether no other run writes there."""
        self.outcomes: list[Outcome] = []
        self.started = False
        self.in_sweep = False
        """Whether the run is one of several."""

    def __call__(self, composed: "DictConfig") -> Outcome:
        """One run. What keeps it from starting is an outcome too: Hydra would print the overrides beside it."""
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        self.started = True
        self.in_sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
        choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
        try:
            if not self.in_sweep:
                _refuse_launcher(choices.get("hydra/launcher"))
            outcome = self._run(resolve(composed, choices))
        except (ConfigError, CorpusError) as error:
            outcome = Outcome("", "", "refused", str(error))
        if outcome.status == "failed":
            print(f"{Path(outcome.path).name}: failed", flush=True)
        self.outcomes.append(outcome)
        return outcome

    def _run(self, config: RunConfig) -> Outcome:
        try:
            return cell.run(
                config, self.environment, wait=self.wait, own_terminal=self.own_terminal, in_sweep=self.in_sweep
            )
        except (OSError, RecordsError) as error:  # of this run alone, perhaps: the other cells of a sweep go on
            return Outcome("", str(cell.study_directory(config) / slug(config)), "failed", explain_failure(error))


def _refuse_launcher(name: str | None) -> None:
    """Hydra passes over launchers of single runs, which would be computed here and not on the cluster, say."""
    if name not in (None, "basic"):
        raise ConfigError(
            f"hydra/launcher={name}: starts the runs of a sweep, and this is one run; add -m, or leave it out"
        )


class Check(Task):
    """Takes what was composed to the point at which a run would start."""

    def _run(self, config: RunConfig) -> Outcome:
        return Outcome("", "", "waiting")
