"""How a component declares its options: a small, frozen, strictly typed dataclass in an `options.py` beside it.

A class made with `@options` refuses unknown fields and wrong types when it is constructed, from Python and from
YAML alike, so that there is one place where a value is checked.
"""

import copy
import json
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

C = TypeVar("C")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field,))
def options(cls: type[C]) -> type[C]:
    """Turn an annotated class into a frozen, keyword-only dataclass that forbids unknown fields and wrong types.

    Raises `pydantic.ValidationError` when it is constructed from something else.
    """
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    made: Any = dataclass(frozen=True, kw_only=True, config=config)(cls)
    return made


Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**62)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
IntPair = tuple[int, int]
FloatPair = tuple[float, float]


def parse(schema: type[C], values: Mapping[str, Any]) -> C:
    """Build a dataclass made with `@options` from plain containers, as YAML gives them.

    Strict mode takes nested mappings and lists only from JSON, so that is the way they go.
    Raises `pydantic.ValidationError`.
    """
    return TypeAdapter(schema).validate_json(json.dumps(values))


def without_neutral(values: Any, neutral: Mapping[str, Any]) -> Any:
    """Plain containers without the options that are at their neutral value, whatever the order of `neutral`.

    Args: neutral, option by dotted key → the value at which it changes nothing. A key leads through mappings, and into
    each entry of a list. What lies deeper goes first, so that a mapping is compared without what was added to it.
    """
    left = copy.deepcopy(values)
    for key in sorted(neutral, key=lambda key: -key.count(".")):
        _drop(left, key.split("."), neutral[key])
    return left


def _drop(values: Any, path: list[str], neutral: Any) -> None:
    if isinstance(values, list | tuple):
        for value in values:
            _drop(value, path, neutral)
    elif isinstance(values, dict) and path[0] in values:
        if len(path) > 1:
            _drop(values[path[0]], path[1:], neutral)
        elif values[path[0]] == neutral:
            del values[path[0]]
