"""Where Hydra looks for YAML files, whatever the primary config is."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from induction_bump.config.locations import CONF, CONFIGS


class BumpSearchPath(SearchPathPlugin):
    """Adds `conf/`, so that its groups are there when a run's own `config.yaml` is the primary config, and `sweeps`."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append both directories behind the primary one."""
        search_path.append("induction_bump", f"file://{CONF}")
        search_path.append("induction_bump", f"file://{CONFIGS}")


def register() -> None:
    """Make Hydra use it in this process."""
    Plugins.instance().register(BumpSearchPath)
