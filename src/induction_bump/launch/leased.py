"""The task of one process among several on a machine: a cell on devices that are lent to it."""

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from induction_bump.launch import cell, leases, stop
from induction_bump.launch.demand import Demand, with_threads
from induction_bump.launch.leases import Machine
from induction_bump.launch.ledger import Ledger
from induction_bump.launch.noted import NotedTask
from induction_bump.launch.outcome import Outcome
from induction_bump.launch.task import Task
from induction_bump.records.directory import RunDirectory
from induction_bump.training.options import RunConfig


class LeasedTask(NotedTask):
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
        """`asked` and `at_once` are the pool's, `numbers` those that Hydra's jobs have in the ledger."""
        super().__init__(task, numbers, ledger)
        self.own_terminal = at_once == 1
        self.machine, self.asked, self.at_once = machine, asked, at_once

    def _run(self, config: RunConfig) -> Outcome:
        if threads := cell.threads_begun_with(config, RunDirectory(cell.plan(config).path)):
            config = replace(config, devices=replace(config.devices, threads=threads))
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
