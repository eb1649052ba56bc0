"""When a quantity crosses an absolute threshold for good: a first, sustained crossing between two snapshots."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Verdict = Literal["found", "not_found", "left_censored", "right_censored", "not_applicable"]
"""What is known about the time of an event:

| verdict | meaning | low | high |
|---|---|---|---|
| `found` | it happened in (low, high] | last snapshot before | crossing one |
| `left_censored` | it held already at the first snapshot | the first one | the same |
| `right_censored` | after low, if ever: too few snapshots left to sustain it, or the run goes on | last before | – |
| `not_found` | the run ended without it | – | – |
| `not_applicable` | this model or corpus cannot have it | – | – |
"""


@dataclass(frozen=True)
class Crossing:
    """The outcome of a search, as indices into the snapshots that were searched."""

    verdict: Verdict
    low: int | None = None
    high: int | None = None
    seen_from: int | None = None
    """The snapshot whose proposal was accepted (or would be, were there more snapshots): high, or one after it."""

    @property
    def found(self) -> bool:
        """Whether the event happened, be its time known (`found`) or only bounded from above (`left_censored`)."""
        return self.verdict in ("found", "left_censored")


def first_sustained(n: int, holds: Callable[[int, int], bool], sustain: int, *, ended: bool) -> Crossing:
    """The first of n snapshots at which something holds and goes on to hold on the next `sustain` snapshots.

    holds(i, j): whether it holds at snapshot j, seen from a crossing proposed at i ≤ j or from the way back, j < i:
    where the threshold depends on i, the interval reaches back to the last snapshot that this same threshold leaves
    out. ended: whether the run came to its planned end, so that no further snapshot can follow.

    Raises ValueError where there is no snapshot.
    """
    if n < 1:
        raise ValueError("a crossing needs at least one snapshot")
    for i in range(n):
        if not all(holds(i, j) for j in range(i, min(i + sustain + 1, n))):
            continue
        first = i
        while first > 0 and holds(i, first - 1):
            first -= 1
        if i + sustain >= n:
            return Crossing("right_censored", first - 1 if first else None, seen_from=i)
        return Crossing("found", first - 1, first, i) if first else Crossing("left_censored", 0, 0, i)
    return Crossing("not_found") if ended else Crossing("right_censored", n - 1)


def first_at_least(values: npt.NDArray[np.float64], threshold: float, sustain: int, *, ended: bool) -> Crossing:
    """The first sustained crossing of values ≥ threshold, one value a snapshot.

    Raises ValueError where there is no value or one is not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError(f"the value at snapshot {int(np.flatnonzero(~np.isfinite(values))[0])} is not finite")
    return first_sustained(len(values), lambda _, j: bool(values[j] >= threshold), sustain, ended=ended)
