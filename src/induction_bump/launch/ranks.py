"""Whether this process is one of several that somebody else started."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from induction_bump.config.errors import ConfigError
from induction_bump.training.options import RunConfig


@dataclass(frozen=True)
class Rank:
    """A place among the processes of a run."""

    number: int
    world: int
    starter: Literal["torchrun", "slurm"]

    @property
    def first(self) -> bool:
        """Whether it is the one that writes."""
        return self.number == 0


def from_environment(environment: Mapping[str, str] = os.environ) -> Rank | None:
    """This process's rank inside an existing torchrun or SLURM step of several tasks; None outside of both."""
    if {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= environment.keys() and (
        "TORCHELASTIC_RUN_ID" in environment or "MASTER_ADDR" in environment
    ):
        return Rank(int(environment["RANK"]), int(environment["WORLD_SIZE"]), "torchrun")
    # A batch script has SLURM_NTASKS too, but is no task of a step.
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
    if "SLURM_PROCID" in environment and tasks > 1:
        return Rank(int(environment["SLURM_PROCID"]), tasks, "slurm")
    return None


def check(config: RunConfig, rank: Rank | None) -> None:
    """Raises ConfigError where the devices asked for are not the processes that there are."""
    devices = config.devices
    asked = devices.count * devices.nodes
    if rank and rank.world != asked:
        raise ConfigError(
            f"devices.count={devices.count} × devices.nodes={devices.nodes}: {rank.starter} started {rank.world} "
            f"processes, and there must be one for each of the {asked} devices"
        )
    if rank is None and devices.nodes > 1:
        raise ConfigError(
            f"devices.nodes={devices.nodes}: start one `bump train` a device with srun or torchrun, "
            "or set devices.nodes=1"
        )
