"""A run's config from overrides as they stand after `bump train`, for Python code that has no command line."""

from collections.abc import Sequence

from induction_bump.config.locations import CONF
from induction_bump.config.overrides import rewrite
from induction_bump.config.resolve import resolve
from induction_bump.training.options import RunConfig


def compose(overrides: Sequence[str] = ()) -> RunConfig:
    """Compose and check one run.

    >>> compose(["experiment=quickstart", "model=one_layer"]).model.sublayers
    's'

    Raises ConfigError for values that cannot be, and Hydra's exceptions for groups and files that are not there.
    """
    import hydra

    from induction_bump.config import search_path

    search_path.register()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3", job_name="train"):
        return resolve(hydra.compose("train", rewrite(overrides), return_hydra_config=True))
