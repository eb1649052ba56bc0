"""What the typed config looks like: which keys there are, and how a place in it is written by users."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from induction_bump.training.options import RunConfig

Location = Sequence[str | int]


def written(location: Location) -> str:
    """A pydantic location as users write it: `data.corpus.segment[0]`, without the name of a union's member."""
    text = ""
    for part in _without_tags(location):
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def keys_at(location: Location) -> list[str]:
    """Names of the fields of the options at a pydantic location; none where there is a plain value."""
    return list(_fields(cls)) if (cls := _class_at(location)) else []


def choices_at(location: Location) -> list[str]:
    """Names among which `name` chooses at a pydantic location that may hold several kinds of options."""
    *before, last = location
    cls = _class_at(before)
    return [name for name in _members(_fields(cls)[str(last)]) if name] if cls else []


def others_with(location: Location) -> list[str]:
    """Of the kinds of options that a pydantic location chose one among, the others that have its last key."""
    *before, chosen, key = location
    *parent, field = before or [""]
    cls = _class_at(parent) if before else None
    members = _members(_fields(cls)[str(field)]) if cls and field in _fields(cls) else {}
    return [name for name, member in members.items() if name != chosen and chosen in members and key in _fields(member)]


@cache
def all_keys() -> tuple[str, ...]:
    """Every dotted key that some config may have."""

    def walk(cls: type, prefix: str) -> list[str]:
        found = []
        for name, hint in _fields(cls).items():
            inner = {} if get_origin(hint) is tuple else _members(hint)
            found.append(f"{prefix}{name}")
            for member in inner.values():
                found += walk(member, f"{prefix}{name}.")
        return found

    return tuple(dict.fromkeys(walk(RunConfig, "")))


def _fields(cls: type) -> Mapping[str, Any]:
    hints = _hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _members(hint: Any) -> dict[str, type]:
    """The options classes that a field may hold, by the name that chooses them ("" where there is no choice)."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _members(get_args(hint)[0])
    if origin is tuple and get_args(hint)[-1] is Ellipsis:
        return _members(get_args(hint)[0])
    if origin in (Union, UnionType):
        found = [m for arg in get_args(hint) for m in _members(arg).values()]
        if len(found) > 1:
            return {get_args(_hints(m)["name"])[0]: m for m in found}
        return {"": found[0]} if found else {}
    return {"": hint} if isinstance(hint, type) and hasattr(hint, "__pydantic_config__") else {}


def _walk(location: Location) -> tuple[list[str | int], type | None]:
    shown: list[str | int] = []
    members: dict[str, type] = {"": RunConfig}
    for part in location:
        if part in members and len(members) > 1:  # the tag of a union, which no user writes
            members = {"": members[str(part)]}
            continue
        shown.append(part)
        if isinstance(part, int):  # an entry of a list, whose options its members are already
            continue
        cls = members.get("") if len(members) == 1 else None
        members = _members(_fields(cls)[str(part)]) if cls and part in _fields(cls) else {}
    return shown, members.get("")


def _without_tags(location: Location) -> list[str | int]:
    return _walk(location)[0]


def _class_at(location: Location) -> type | None:
    return _walk(location)[1]
