"""What submitit calls in a job: the cell, and before a requeue its way to stop."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psutil
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher

from induction_bump.launch import stop
from induction_bump.launch.ledger import Ledger
from induction_bump.launch.noted import NotedTask
from induction_bump.launch.outcome import Outcome
from induction_bump.launch.task import Task
from induction_bump.launch.watch import Watched, end_with

_POLL_SECONDS = 0.1


class SubmittedTask(NotedTask):
    """A cell of which a job that may not be requeued once more leaves the rest to the next call."""

    def _of_error(self, error: Exception) -> Outcome:
        # submitit ends a job whose last timeout this was by an error, after `checkpoint`
        if type(error).__module__.split(".")[0] == "submitit":
            return Outcome("", "", "preempted", str(error))
        return super()._of_error(error)


class SubmittedCell(BaseSubmititLauncher):
    """Runs one cell of a sweep in a job whose signals submitit takes."""

    def __init__(
        self, task: Task, numbers: Sequence[int], ledger: Ledger, *, launcher: str | None, patience: float
    ) -> None:
        """`launcher` is a process on this machine to end with; workers get `patience` seconds to stop."""
        super().__init__()
        self.task = SubmittedTask(task, numbers, ledger)
        self.launcher, self.patience = launcher, patience

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Run the cell, in the environment that the job has."""
        stop.leave_signals()
        if self.launcher:
            end_with(Watched.parse(self.launcher))
        os.environ[stop.SWEEP] = self.task.environment[stop.SWEEP]
        self.task.environment = dict(os.environ)
        return super().__call__(*arguments, **named)

    def checkpoint(self, *arguments: Any, **named: Any) -> Any:
        """Stop the workers at a step boundary, then let submitit run the same cell again: it goes on from there.

        Called by a handler while this thread waits for the workers, so nothing here may wait for them in that way.
        """
        stop.request_everywhere()
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline and _running_children():
            time.sleep(_POLL_SECONDS)
        return super().checkpoint(*arguments, **named)


def _running_children() -> list[psutil.Process]:
    """Processes below this one; one that has ended stays a zombie until it is waited for."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found
