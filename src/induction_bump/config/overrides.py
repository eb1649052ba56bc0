"""Small changes to what users write on the command line before Hydra reads it.

Hydra's own check of keys knows only what the YAML files mention and says little about a misspelt one. Values are
therefore passed on as `++key=value`, and the typed config, which knows every key, is the one that checks.
"""

import re
from collections.abc import Iterable

from induction_bump.config.errors import ConfigError
from induction_bump.config.locations import CONF

GLOBAL_GROUPS = ("experiment", "debug", "sweeps")
"""Groups whose files may set any key. Giving them their package here spares each file Hydra's `@package` line, which
would have to come first, where the command that runs the file stands."""

_IN_DEFAULTS = ("experiment",)


def rewrite(overrides: Iterable[str], own_config: bool = True) -> list[str]:
    """Overrides as Hydra shall see them; `own_config` says whether `train.yaml` is the primary config.

    Raises ConfigError for what is no override at all.
    """
    return [_rewrite(override, own_config) for override in overrides]


def as_typed(text: str) -> str:
    """An override, or a message that quotes one, as the user wrote it: without what `rewrite` adds."""
    return text.replace("++", "").replace("@_global_", "")


def selects_sweep(overrides: Iterable[str]) -> bool:
    """Whether one of the overrides, as a user wrote them, names a sweep."""
    return any(override.lstrip("+").split("=")[0] in ("sweeps", "sweeps@_global_") for override in overrides)


def _rewrite(override: str, own_config: bool) -> str:
    key, equals, value = override.partition("=")
    name = key.lstrip("+")
    if not name.strip("~") or not (equals or key.startswith("~")):
        raise ConfigError(
            f"{override}: is not an override; write key=value, such as experiment=quickstart, "
            "with quotes around both where the value holds blanks"
        )
    if _is_group(name):
        value = _as_name(value)
        override = f"{key}{equals}{value}"
    if name in GLOBAL_GROUPS:
        present = own_config and name in _IN_DEFAULTS
        return f"{'' if present else '+'}{name}@_global_{equals}{value}"
    if not equals or key[:1] in ("+", "~") or "/" in key or "@" in key or key == "hydra" or key.startswith("hydra."):
        return override
    return override if _is_group(key) else f"++{override}"


def _is_group(key: str) -> bool:
    return key in GLOBAL_GROUPS or "/" in key or "@" in key or (CONF / key).is_dir()


def _as_name(value: str) -> str:
    """A choice that Hydra would read as a number or the like, as the name that it can only be."""
    return f'"{value}"' if re.fullmatch(r"[+-]?[\d.][\w.+-]*|true|false|null|nan|inf", value, re.IGNORECASE) else value
