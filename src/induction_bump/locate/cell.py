"""When the runs of one cell change: the spread over seeds (docs/locating.md#the-test-the-intervals-the-verdict).

A cell are runs that were trained alike but for their seeds (`records.cells`). Each run says between which
two snapshots its change lies, or that there was none up to its last one; or its records leave that open, which says
nothing of the time, but is counted. A log-normal time of the change is fitted to that (`lognormal.py`). The interval of
the median is never mixed with the intervals of single runs, which know nothing of other seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from induction_bump.locate.lognormal import Brackets, LogNormal

LEAST_FOUND = 3
"""Runs with the change between two snapshots below which no spread is told."""


@dataclass(frozen=True)
class Sighting:
    """What one run says about the time of its change, in tokens."""

    low: float = 0.0
    """After which it was; 0 where nothing is known."""
    high: float = math.inf
    """By which it was; infinite where the run is not known to have it, 0 where it had it before training."""

    @property
    def found(self) -> bool:
        """Whether the run had it."""
        return math.isfinite(self.high)

    @property
    def undetermined(self) -> bool:
        """Whether the run leaves open if and when it had it."""
        return not self.found and not self.low

    @property
    def bracketed(self) -> bool:
        """Whether it lies between two moments of training."""
        return self.found and self.low > 0


@dataclass(frozen=True)
class Cell:
    """The time of one change over the seeds of one config."""

    cell: str
    """Its name: how its config differs from those of the study's other cells."""
    event: str
    n: int
    found: int
    undetermined: int
    """Runs that leave open whether they have it; the others ended without it."""
    median: float | None = None
    """Tokens by which half of all seeds have changed; None where too few have to bound it on both sides."""
    low: float | None = None
    high: float | None = None
    """90 % interval of the median; 0 and infinite on a side that is open."""
    cv: float | None = None
    """Coefficient of variation over seeds; None where the snapshots are too far apart to tell it from 0."""
    cv_low: float | None = None
    cv_high: float | None = None
    """Its 90 % interval; from 0 where it is only known to be at most `cv_high`."""
    rule: str = ""
    """What the numbers rest on."""

    @property
    def without(self) -> int:
        """Runs that ended without it."""
        return self.n - self.found - self.undetermined


def fit_cell(cell: str, event: str, sightings: Sequence[Sighting]) -> Cell:
    """Median and spread of the time of a change, from one sighting a run.

    More than half of the runs must bound the time from above for the median to be bounded above, and from below
    likewise: beyond that it would be the tail of the log-normal that is told, not what runs have shown.
    """
    n, found, open_runs = len(sightings), sum(s.found for s in sightings), sum(s.undetermined for s in sightings)
    counted = Cell(cell, event, n, found, open_runs)
    bracketed = sum(s.bracketed for s in sightings)
    if bracketed < LEAST_FOUND:
        between = f", {bracketed} between two snapshots" if bracketed < found else ""
        return replace(counted, rule=f"{found} of {n} runs have it{between}; {LEAST_FOUND} are the least for a spread")
    rule = _rule(counted, bracketed)
    above, below = 2 * found >= n, 2 * sum(s.low > 0 for s in sightings) >= n
    if not above and not below:
        return replace(counted, rule=f"{rule}: too few to bound the median")
    try:
        fit = LogNormal(Brackets.of_tokens([s.low for s in sightings], [s.high for s in sightings]))
        return _fitted(replace(counted, rule=rule), fit, above=above, below=below)
    except np.linalg.LinAlgError as error:
        return replace(counted, rule=f"{rule}: the fit came to no result ({error})")


def _fitted(counted: Cell, fit: LogNormal, *, above: bool, below: bool) -> Cell:
    low, high = (math.exp(end) for end in fit.mean_interval)
    if not above:
        open_above = f"{counted.rule}: with fewer than half, the median is open above"
        return replace(counted, low=low, high=math.inf, rule=open_above)
    if not below:
        open_below = f"{counted.rule}: with more than half so early, it is open below"
        return replace(counted, low=0.0, high=high, rule=open_below)
    cv_low, cv_high = (_variation(sigma) for sigma in fit.sigma_interval)
    cv = None if fit.sigma is None else _variation(fit.sigma)
    return replace(counted, median=math.exp(fit.mean), low=low, high=high, cv=cv, cv_low=cv_low, cv_high=cv_high)


def _rule(cell: Cell, bracketed: int) -> str:
    others = {
        "before the first": cell.found - bracketed,
        "right-censored at their ends": cell.without,
        "undetermined": cell.undetermined,
    }
    told = "".join(f", {count} {what}" for what, count in others.items() if count)
    return f"log-normal over {cell.n} seeds, {bracketed} with the change between two snapshots{told}"


def _variation(sigma: float) -> float:
    """The coefficient of variation of a log-normal."""
    return math.sqrt(math.expm1(sigma**2)) if sigma < 20 else math.inf
