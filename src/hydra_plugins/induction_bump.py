"""Where Hydra looks for plugins, in every process that uses it: makes ours known, and nothing else."""

from dataclasses import dataclass

from hydra.core.config_store import ConfigStore

from induction_bump.launch.cluster import Cluster
from induction_bump.launch.pool import Pool
from induction_bump.launch.sweeper import CheckedSweeper


class BumpSweeper(CheckedSweeper):
    """`CheckedSweeper` under the only package from which Hydra takes plugins."""


class PoolLauncher(Pool):
    """`Pool`, as `conf/hydra/launcher/pool.yaml` names it."""


class SlurmLauncher(Cluster):
    """`Cluster`, as `conf/hydra/launcher/slurm.yaml` names it."""


class LocalLauncher(Cluster):
    """`Cluster` on this machine, as `conf/hydra/launcher/slurm_local.yaml` names it."""

    cluster = "local"


@dataclass
class BumpSweeperConf:
    """Options of `hydra/sweeper=bump`."""

    _target_: str = f"{__name__}.{BumpSweeper.__name__}"
    params: dict[str, str] | None = None


ConfigStore.instance().store(group="hydra/sweeper", name="bump", node=BumpSweeperConf, provider="induction_bump")
