"""From what Hydra composed to a checked `RunConfig`, and back to plain containers."""

import difflib
import json
import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from induction_bump.config.errors import ConfigError
from induction_bump.config.fields import all_keys, choices_at, keys_at, others_with, written
from induction_bump.training.options import NAME, RunConfig

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from pydantic_core import ErrorDetails

_SHOWN = 2
_DEFAULT_STUDY = "default"
PATTERNS: Mapping[str, str] = {
    NAME: "must begin with a letter or digit, and go on with letters, digits, '.', '_' and '-'",
    "^[sf]*$": "must be made of s (self-attention) and f (feed-forward)",
}
"""What each pattern of a field allows, in words."""

_WORDS = {
    "tuple_type": "must be a list, such as [a,b]",
    "too_short": "must have {min_length} entries or more",
    "too_long": "must have no more than {max_length} entries",
    "string_too_short": "must not be empty",
    "string_type": "must be text",
}
"""What pydantic says in a programmer's words."""


def resolve(composed: "DictConfig", choices: Mapping[str, Any] | None = None) -> RunConfig:
    """Check what Hydra composed, whole. A study that nothing names is called after the sweep or the experiment.

    Args: choices, what Hydra chose in each group; None takes it from the `hydra` section of `composed`.
    Raises ConfigError, whose message has a line for each of the first two mistakes.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    values: dict[str, Any] = {}
    try:
        for key in composed:
            if key != "hydra":
                value = composed[key]
                plain = OmegaConf.is_config(value)
                values[str(key)] = (
                    OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if plain else value
                )
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key}: must be set; it has no default") from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key or 'config'}: {str(error.msg or error).splitlines()[0]}") from None
    if "study" in values and values["study"] is None:
        found = OmegaConf.select(composed, "hydra.runtime.choices") if choices is None else choices
        values["study"] = _study_of(found or {})
    return load(values)


def _study_of(choices: Mapping[str, Any]) -> str:
    """Name of the chosen sweep, else of the experiment."""
    for group in ("sweeps", "experiment"):
        chosen = choices.get(f"{group}@_global_") or choices.get(group)
        if chosen:
            return str(chosen).rsplit("/", 1)[-1]
    return _DEFAULT_STUDY


def load(values: Mapping[str, Any]) -> RunConfig:
    """Check nested plain containers. Raises ConfigError as `resolve` does."""
    try:
        text = json.dumps(values)
    except TypeError as error:
        raise ConfigError(f"config: {error}") from None
    try:
        # The strict reading of JSON takes mappings for options and lists for tuples, and nothing else for anything.
        return _adapter().validate_json(text)
    except ValidationError as error:
        mistakes = [_explain(detail) for detail in _most_telling(error.errors(include_url=False))]
        lines = mistakes[:_SHOWN]
        if len(mistakes) > _SHOWN:
            lines[-1] += f" (and {len(mistakes) - _SHOWN} more)"
        raise ConfigError("\n".join(lines)) from None


def dump(config: RunConfig) -> dict[str, Any]:
    """Nested plain containers as in `config.yaml`: durations as text, tuples as lists; `load` takes them back."""
    return _adapter().dump_python(config, mode="json")


@cache
def _adapter() -> TypeAdapter[RunConfig]:
    return TypeAdapter(RunConfig)


def _most_telling(errors: "list[ErrorDetails]") -> "list[ErrorDetails]":
    """Unknown keys first: where a key is misspelt, the rest often follows from it."""
    return sorted(errors, key=lambda error: error["type"] != "unexpected_keyword_argument")


def _explain(error: "ErrorDetails") -> str:
    key, location = written(error["loc"]), error["loc"]
    kind, context = error["type"], error.get("ctx", {})
    if kind == "unexpected_keyword_argument" and len(location) > 1 and (others := others_with(location)):
        where = f"{written(location[:-1])}.name"
        return f"{key}: no such key; it belongs to {where}={' or '.join(others)}, and here that is {location[-2]}"
    if kind == "unexpected_keyword_argument":
        return f"{key}: no such key; {_suggest(key, keys_at(location[:-1]))}"
    if kind == "missing" and location and isinstance(location[-1], int):
        return f"{written(location[:-1])}: has too few entries; entry {location[-1] + 1} is missing"
    if kind == "missing":
        return f"{key}: must be set; it has no default"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        allowed = context.get("expected_tags") or ", ".join(f"'{name}'" for name in choices_at(location))
        return f"{key}.name={context.get('tag', '')}: must be one of {allowed}"
    if kind == "value_error":
        message = str(context.get("error", error["msg"]))
        leading = re.match(r"(\w+)[\w.\[\]]*[=:]", message)
        if leading and leading[1] in keys_at(location):
            return f"{key}.{message}" if key else message
        return f"{key}: {message}" if key else message
    value = json.dumps(error["input"], ensure_ascii=False)
    if kind == "string_type" and isinstance(error["input"], int | float):
        what = "a truth value" if isinstance(error["input"], bool) else "a number"
        return f"{key}={value}: must be text, and is read as {what}; put what you mean in quotes: '{key}=\"…\"'"
    if kind == "dict_type" and (choices := choices_at(location)):
        return f"{key}={value}: must hold keys, among them name, which is one of {', '.join(choices)}"
    if kind == "dataclass_type":
        return f"{key}={value}: must hold keys, which are {', '.join(keys_at(location))}"
    if kind in _WORDS:
        return f"{key}={value}: {_WORDS[kind].format(**context)}"
    if kind == "string_pattern_mismatch":
        return f"{key}={value}: {PATTERNS.get(context['pattern'], error['msg'])}"
    return f"{key}={value}: {error['msg'].replace('Input should', 'must')}"


def _suggest(key: str, siblings: list[str]) -> str:
    *parents, name = key.split(".")
    elsewhere = [known for known in all_keys() if known.split(".")[-1] == name and known != key]
    if len(elsewhere) == 1:
        return f"did you mean {elsewhere[0]}?"
    close = difflib.get_close_matches(name, siblings, n=1, cutoff=0.6)
    if close:
        return f"did you mean {'.'.join([*parents, close[0]])}?"
    here = ".".join(parents)
    return f"{here or 'the config'} has {', '.join(siblings)}"
