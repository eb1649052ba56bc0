"""What a cell needs of a machine that it shares with other cells."""

from dataclasses import dataclass, replace

from induction_bump.config.errors import ConfigError
from induction_bump.launch.leases import Kind, Machine
from induction_bump.training.options import RunConfig


@dataclass(frozen=True)
class Demand:
    """Devices that one cell has for itself."""

    kind: Kind
    count: int

    @classmethod
    def of(cls, config: RunConfig, machine: Machine, asked: int | None = None) -> "Demand":
        """One GPU or `devices.threads` cores for each process; all cores where the machine has fewer.

        Where threads are not given, they are an equal share of the cores among the cells `asked` for, else 1. Raises
        ConfigError for more GPUs than there are.
        """
        devices = config.devices
        if devices.accelerator == "cuda" or (devices.accelerator == "auto" and machine.gpus):
            if devices.count > len(machine.gpus):
                raise ConfigError(
                    f"devices.accelerator={devices.accelerator}, devices.count={devices.count}: "
                    f"this machine has {len(machine.gpus)} CUDA devices"
                )
            return cls("gpu", devices.count)
        cores = len(machine.cores)
        threads = devices.threads or (max(1, cores // asked // devices.count) if asked else 1)
        return cls("core", min(cores, threads * devices.count))


def with_threads(config: RunConfig, machine: Machine, at_once: int) -> RunConfig:
    """A config for GPUs with a share of the cores in place of all, which other cells need too."""
    devices = config.devices
    share = max(1, len(machine.cores) // at_once // devices.count)
    return replace(config, devices=replace(devices, threads=devices.threads or share))
