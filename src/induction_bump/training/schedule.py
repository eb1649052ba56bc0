"""Durations that carry their unit, and the one schedule object for everything that happens at moments of training."""

import bisect
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer

Unit = Literal["step", "tok"]
_PREFIX = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_PATTERN = re.compile(r"^(\d+(?:_\d+)*(?:\.\d+)?)\s*([kMG]?)(step|tok)s?$")


@dataclass(frozen=True, order=False)
class Duration:
    """A length of training in optimiser steps or in training tokens, such as `2000step` or `12Mtok`."""

    value: int
    unit: Unit

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Read `2000step`, `1.5Mtok`, `500ktok`. Raises ValueError without a unit or for a fraction of one."""
        found = _PATTERN.match(text)
        if not found:
            raise ValueError(f"'{text}' is not a duration; write a number and its unit, such as 2000step or 12Mtok")
        number, prefix, unit = found.groups()
        value = Decimal(number) * _PREFIX[prefix]
        if value != value.to_integral_value():
            raise ValueError(f"'{text}' is not a whole number of {unit}s")
        return cls(int(value), unit)  # type: ignore[arg-type]

    def steps(self, tokens_per_step: int) -> int:
        """Number of optimiser steps, rounded up to whole ones."""
        return self.value if self.unit == "step" else math.ceil(self.value / tokens_per_step)

    def __str__(self) -> str:
        for prefix in ("G", "M", "k"):
            if self.value and self.value % _PREFIX[prefix] == 0 and self.unit == "tok":
                return f"{self.value // _PREFIX[prefix]}{prefix}tok"
        return f"{self.value}{self.unit}"


def _duration(value: Any) -> Any:
    return Duration.parse(value) if isinstance(value, str) else _refuse_bare_number(value)


def _refuse_bare_number(value: Any) -> Any:
    if isinstance(value, int | float):
        raise ValueError(f"{value} has no unit; write {value}step or {value}tok")
    return value


Length = Annotated[Duration, BeforeValidator(_duration), PlainSerializer(str, return_type=str)]
"""A field that takes a `Duration` or its text."""


class Schedule:
    """The steps at which something happens: a sorted set that always holds step 0 and the last step.

    >>> Schedule.log_spaced(1, 1000, 4) | Schedule([500], last=1000)
    Schedule(0, 1, 10, 100, 500, 1000)
    """

    def __init__(self, steps: Iterable[int], last: int) -> None:
        """Raises ValueError for a step before 0 or after `last`."""
        chosen = {0, last, *steps}
        if min(chosen) < 0 or max(chosen) > last:
            raise ValueError(f"a moment of the schedule lies outside 0 … {last} steps: {min(chosen)} … {max(chosen)}")
        self.last = last
        self.steps = tuple(sorted(chosen))
        self._set = frozenset(chosen)

    @classmethod
    def log_spaced(cls, start: int, last: int, count: int) -> "Schedule":
        """About `count` steps from `start` to `last` at equal ratios (fewer where rounding makes two the same)."""
        if not 1 <= start <= last:
            raise ValueError(f"a log-spaced schedule starts between 1 and {last} steps, not at {start}")
        if count < 2:
            return cls([start], last)
        ratio = math.log(last / start) / (count - 1)
        return cls((min(last, round(start * math.exp(ratio * i))) for i in range(count)), last)

    @classmethod
    def linear(cls, every: int, last: int) -> "Schedule":
        """Every `every` steps."""
        if every < 1:
            raise ValueError(f"a linear schedule steps by at least 1 step, not {every}")
        return cls(range(0, last + 1, every), last)

    def __or__(self, other: "Schedule") -> "Schedule":
        return Schedule(self._set | other._set, max(self.last, other.last))

    def __contains__(self, step: int) -> bool:
        return step in self._set

    def __iter__(self) -> Any:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and self.steps == other.steps

    def __hash__(self) -> int:
        return hash(self.steps)

    def __repr__(self) -> str:
        return f"Schedule({', '.join(map(str, self.steps))})"

    def next_after(self, step: int) -> int | None:
        """The first moment after `step`, or None after the last."""
        place = bisect.bisect_right(self.steps, step)
        return self.steps[place] if place < len(self.steps) else None
