"""Where the YAML files lie: the same place in a checkout (through symlinks) and in an installed wheel (as files)."""

from pathlib import Path

import induction_bump

CONFIGS = Path(induction_bump.__file__).parent / "configs"
"""Holds `conf/` and `sweeps/` and nothing else; it is on Hydra's search path, so `sweeps` is a config group."""

CONF = CONFIGS / "conf"
"""Holds `train.yaml` and one directory per config group."""
