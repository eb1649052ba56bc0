"""When the runs of one cell change: the spread over seeds (docs/locating.md#the-test-the-intervals-the-verdict).

A cell are runs that were trained alike but for their seeds (`records.cells`). Each run says where its change is placed
and with which error, or between which two snapshots an event lies, or that there was none up to its last one; or its
records leave that open, which says nothing of the time, but is counted. A log-normal time of the change is fitted to
that (`lognormal.py`). The interval of the median is never mixed with the intervals of single runs, which know nothing
of other seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from induction_bump.locate.lognormal import LogNormal
from induction_bump.locate.sighting import Sighting, Sightings

LEAST_FOUND = 3
"""Runs with the change within training below which no spread is told."""


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
    """Coefficient of variation over seeds; None where brackets or errors are too wide to tell it from 0."""
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
    closed = [s for s in sightings if s.closed]
    if len(closed) < LEAST_FOUND:
        within = f", {_within(closed)}" if closed and len(closed) < found else ""
        return replace(counted, rule=f"{found} of {n} runs have it{within}; {LEAST_FOUND} are the least for a spread")
    rule = _rule(counted, closed)
    above, below = 2 * found >= n, 2 * (len(closed) + counted.without) >= n
    if not above and not below:
        return replace(counted, rule=f"{rule}: too few to bound the median")
    try:
        fit = LogNormal(Sightings.of_runs(sightings))
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
    cv = _variation(fit.sigma) if cv_low else None
    return replace(counted, median=math.exp(fit.mean), low=low, high=high, cv=cv, cv_low=cv_low, cv_high=cv_high)


def _rule(cell: Cell, closed: Sequence[Sighting]) -> str:
    others = {
        "before the first": cell.found - len(closed),
        "right-censored at their ends": cell.without,
        "undetermined": cell.undetermined,
    }
    told = "".join(f", {count} {what}" for what, count in others.items() if count)
    return f"log-normal over {cell.n} seeds, {_within(closed)}{told}"


def _within(closed: Sequence[Sighting]) -> str:
    """How many runs have it within training, by how well that is known."""
    placed = sum(s.placed is not None for s in closed)
    counts = {"placed": placed, "with the change between two snapshots": len(closed) - placed}
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def _variation(sigma: float) -> float:
    """The coefficient of variation of a log-normal."""
    return math.sqrt(math.expm1(sigma**2)) if sigma < 20 else math.inf
