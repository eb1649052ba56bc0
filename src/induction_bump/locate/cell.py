"""When the runs of one cell change: the spread over seeds (measures.md §6).

A cell are runs that were trained alike but for their seeds (`records.cells`). Each run says between which
two snapshots its change lies, or that there was none up to its last one; a log-normal time of the change is fitted to
that by maximum likelihood (interval-censored; a run without the change is right-censored at its end). The interval of
the median is that of its profile likelihood, with the cut-off n · ln(1 + t²/(n − 1)), t being Student's with n − 1
degrees of freedom: were the times known exactly, that would be the t interval of a mean. It is never mixed with the
intervals of single runs, which know nothing of other seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.90
LEAST_FOUND = 3
"""Runs with the change below which no spread is told."""


@dataclass(frozen=True)
class Sighting:
    """What one run says about the time of its change, in tokens."""

    low: float
    """After which it was; 0 where nothing is known."""
    high: float = math.inf
    """By which it was; infinite where the run did not have it."""

    @property
    def found(self) -> bool:
        """Whether the run had it."""
        return math.isfinite(self.high)


@dataclass(frozen=True)
class Cell:
    """The time of one change over the seeds of one config."""

    cell: str
    """Its name: how its config differs from those of the study's other cells."""
    event: str
    n: int
    found: int
    median: float | None = None
    """Tokens by which half of all seeds have changed; None where too few have."""
    low: float | None = None
    high: float | None = None
    """90 % interval of the median."""
    cv: float | None = None
    """Coefficient of variation over seeds."""
    rule: str = ""
    """What the numbers rest on."""


def fit_cell(cell: str, event: str, sightings: Sequence[Sighting]) -> Cell:
    """Median and spread of the time of a change, from one sighting a run."""
    n, found = len(sightings), sum(s.found for s in sightings)
    if found < LEAST_FOUND:
        return Cell(
            cell, event, n, found, rule=f"{found} of {n} runs have it; {LEAST_FOUND} are the least for a spread"
        )
    times = _LogNormalTimes(sightings)
    censored = f", {n - found} right-censored at their ends" if found < n else ""
    rule = f"log-normal over {n} seeds, {found} with the change between two snapshots{censored}"
    # maximum likelihood gives a variance over n
    spread = times.sigma * math.sqrt(n / (n - 1))
    low, high = times.interval(n)
    return Cell(cell, event, n, found, math.exp(times.mu), low, high, math.sqrt(math.expm1(spread**2)), rule)


class _LogNormalTimes:
    """The likelihood of μ and σ of ln(tokens) on a grid."""

    _MU, _SIGMA = 401, 121

    def __init__(self, sightings: Sequence[Sighting]) -> None:
        from scipy.special import ndtr

        known = [s for s in sightings if s.found]
        middles = np.log([math.sqrt(max(s.low, s.high / 4) * s.high) for s in known])
        wide = 4 * max(float(np.ptp(middles)), max(math.log(s.high / max(s.low, s.high / 4)) for s in known), 1e-3)
        self._mu = np.linspace(middles.mean() - wide, middles.mean() + wide, self._MU)
        # far below the distance of snapshots the likelihood no longer changes with σ
        sigmas = np.geomspace(wide / 400, wide, self._SIGMA)
        low = np.array([math.log(s.low) if s.low > 0 else -math.inf for s in sightings])
        high = np.array([math.log(s.high) if s.found else math.inf for s in sightings])
        z = [(ends - self._mu[:, None, None]) / sigmas[None, :, None] for ends in (low, high)]
        # both ends in the lower tail, where differences are exact
        flip = z[0] > 0
        ends = np.where(flip, -z[1], z[0]), np.where(flip, -z[0], z[1])
        likelihood = np.log(np.maximum(ndtr(ends[1]) - ndtr(ends[0]), 1e-300)).sum(2)
        self._profile = likelihood.max(1)
        # where snapshots are too far apart to tell, the middle of the values that are equally likely
        best = np.argwhere(likelihood >= likelihood.max() - 1e-6)
        self.mu = float(self._mu[best[:, 0]].mean())
        self.sigma = float(sigmas[best[:, 1].min()])

    def interval(self, n: int) -> tuple[float, float]:
        """90 % interval of the median, in tokens; infinite above where censoring leaves it open."""
        from scipy.stats import t

        quantile = float(t.ppf((1 + CONFIDENCE) / 2, n - 1))
        inside = 2 * (self._profile.max() - self._profile) <= n * math.log1p(quantile**2 / (n - 1))
        ends = self._mu[inside]
        open_above = bool(inside[-1])
        return math.exp(float(ends[0])), math.inf if open_above else math.exp(float(ends[-1]))
