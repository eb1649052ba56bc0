"""The task of a process that may be killed before it can return anything."""

import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from induction_bump.launch import stop
from induction_bump.launch.ledger import Ledger
from induction_bump.launch.outcome import Outcome, explain_failure
from induction_bump.launch.task import Task

if TYPE_CHECKING:
    from omegaconf import DictConfig


class NotedTask(Task):
    """Writes down what became of its run, for a launcher of several; workers know the request to stop all of them."""

    def __init__(self, task: Task, numbers: Sequence[int], ledger: Ledger) -> None:
        """`numbers` are those that Hydra's jobs have in the ledger."""
        super().__init__({**task.environment, stop.SWEEP: str(ledger.directory)}, task.command)
        self.wait = task.wait
        self.numbers, self.ledger = list(numbers), ledger

    def __call__(self, composed: "DictConfig") -> Outcome:
        """One run. Whatever goes wrong is the outcome of this run alone."""
        from hydra.core.hydra_config import HydraConfig

        number = self.numbers[HydraConfig.get().job.num]
        self.ledger.begin(number)
        try:
            outcome = super().__call__(composed)
        except Exception as error:
            outcome = self._of_error(error)
        self.ledger.end(number, outcome)
        return outcome

    def _of_error(self, error: Exception) -> Outcome:
        """What an error that nothing was prepared for means for the run."""
        traceback.print_exception(error)
        return Outcome("", "", "failed", explain_failure(error))
