"""The task of one process among several on a machine: a cell on devices that are lent to it."""

import os
import traceback
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from induction_bump.launch import leases, stop
from induction_bump.launch.demand import Demand, with_threads
from induction_bump.launch.leases import Machine
from induction_bump.launch.ledger import Ledger
from induction_bump.launch.outcome import Outcome, explain_failure
from induction_bump.launch.task import Task
from induction_bump.training.options import RunConfig

if TYPE_CHECKING:
    from omegaconf import DictConfig


class LeasedTask(Task):
    """Runs a cell on devices that no other cell has, and writes down what became of it."""

    def __init__(
        self,
        task: Task,
        machine: Machine,
        *,
        asked: int | None,
        at_once: int,
        numbers: Sequence[int],
        ledger: Ledger,
    ) -> None:
        """`numbers` are those that Hydra's jobs have in the ledger; the rest is the pool's."""
        super().__init__({**task.environment, stop.SWEEP: str(ledger.directory)}, task.command)
        self.wait, self.own_terminal = task.wait, at_once == 1
        self.machine, self.asked, self.at_once = machine, asked, at_once
        self.numbers, self.ledger = list(numbers), ledger

    def __call__(self, composed: "DictConfig") -> Outcome:
        """One run. Whatever goes wrong is the outcome of this run alone."""
        from hydra.core.hydra_config import HydraConfig

        number = self.numbers[HydraConfig.get().job.num]
        self.ledger.begin(number)
        try:
            outcome = super().__call__(composed)
        except Exception as error:
            traceback.print_exc()
            outcome = Outcome("", "", "failed", explain_failure(error))
        self.ledger.end(number, outcome)
        return outcome

    def _run(self, config: RunConfig) -> Outcome:
        demand = Demand.of(config, self.machine, self.asked)
        with leases.lent(demand.kind, self.machine.there(demand.kind), demand.count, stop.requested) as devices:
            if devices is None:
                return Outcome("", "", "waiting")
            if demand.kind == "core":
                with _bound_to(devices):
                    return super()._run(config)
            self.environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
            return super()._run(with_threads(config, self.machine, self.at_once))


@contextmanager
def _bound_to(cores: Sequence[str]) -> Generator[None, None, None]:
    """Keep this process, and what it starts, on some of the cores; their number is that of its threads."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, map(int, cores))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
