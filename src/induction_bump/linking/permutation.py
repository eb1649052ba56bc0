"""Exact tests with runs as the unit: signs flipped within pairs, runs exchanged between two groups.

A permutation test assumes no more than that the labels would not matter if the treatment did not. With few seeds its
smallest possible p is what it can say at most, so that is given beside it. Enumeration is SciPy's.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

MOST_ENUMERATED = 20_000
"""Rearrangements that are all gone through; beyond, as many are drawn at random."""


@dataclass(frozen=True)
class Test:
    """A two-sided permutation test."""

    __test__ = False  # no test of this project's own

    p: float
    smallest: float
    """The least p that so many runs could have given."""
    exact: bool
    """Whether all rearrangements were gone through."""
    statistic: str
    """What was compared."""

    def can_reject(self, level: float = 0.05) -> bool:
        """Whether any data of this size could have given p ≤ level."""
        return self.smallest <= level


def sign_flip(differences: Sequence[float] | Array, statistic: str = "mean difference") -> Test:
    """Paired: were each pair's difference as likely with the other sign, how often would the mean be as far from 0?

    differences: one a pair, finite. The smallest p of n pairs is 2^(1 − n): 0.0625 with 5, 0.0078 with 8.
    Raises ValueError for fewer than two pairs or a difference that is not finite.
    """
    values = _finite(differences, "difference")
    if len(values) < 2:
        raise ValueError(f"a sign-flip test needs at least two pairs, not {len(values)}")
    return _test((values,), lambda x, axis: x.mean(axis=axis), "samples", 2 ** len(values), statistic)


def two_groups(
    first: Sequence[float] | Array, second: Sequence[float] | Array, statistic: str = "difference of means"
) -> Test:
    """Unpaired: were runs dealt to the groups at random, how often would the means be as far apart?

    The smallest p of n + m runs is 2 / C(n + m, n): 0.0079 with 5 + 5.
    Raises ValueError for a group of fewer than two runs, or a value that is not finite.
    """
    one, other = _finite(first, "value"), _finite(second, "value")
    if min(len(one), len(other)) < 2:
        raise ValueError("a comparison of two groups needs at least two runs in both")

    def difference(x: Array, y: Array, axis: int) -> Array:
        return y.mean(axis=axis) - x.mean(axis=axis)

    return _test((one, other), difference, "independent", math.comb(len(one) + len(other), len(one)), statistic)


def _test(data: tuple[Array, ...], compared: Callable[..., Any], kind: Any, arrangements: int, statistic: str) -> Test:
    from scipy.stats import permutation_test  # slow to load

    exact = arrangements <= MOST_ENUMERATED
    drawn = arrangements if exact else MOST_ENUMERATED - 1  # SciPy goes through all where these suffice
    found = permutation_test(
        data,
        compared,
        permutation_type=kind,
        vectorized=True,
        n_resamples=drawn,
        batch=2000,
        rng=np.random.default_rng(0),
    )
    smallest = min(1.0, 2 / (arrangements if exact else MOST_ENUMERATED))
    return Test(float(found.pvalue), smallest, exact, statistic)


def smallest_paired(n: int) -> float:
    """Smallest two-sided p of a sign-flip test with n pairs."""
    return min(1.0, 2.0 ** (1 - n))


def smallest_unpaired(n: int, m: int) -> float:
    """Smallest two-sided p when n + m runs are dealt to two groups."""
    return min(1.0, 2 / math.comb(n + m, n))


def logrank_scores(times: Sequence[float] | Array, observed: Sequence[bool] | npt.NDArray[np.bool_]) -> Array:
    """One score a run, the later the larger, for permutation tests with right-censored times.

    Λ(t_i) − δ_i with Nelson and Aalen's cumulative hazard Λ(t) = Σ_{t_j ≤ t} d_j / n_j over all runs together, δ_i
    telling whether run i was observed at t_i or censored there. They add up to 0, and the sum over one group is the
    log-rank test's observed minus expected. Only the order of times counts, so "never by the end" needs no number.

    Raises ValueError for arrays of different length or a time that is not finite.
    """
    t, seen = _finite(times, "time"), np.asarray(observed, bool)
    if t.shape != seen.shape:
        raise ValueError(f"{len(t)} times but {len(seen)} say whether they were observed")
    moments = np.unique(t[seen])
    deaths = np.array([(seen & (t == moment)).sum() for moment in moments])
    at_risk = np.array([(t >= moment).sum() for moment in moments])
    hazard = np.concatenate([[0.0], np.cumsum(deaths / at_risk)]) if len(moments) else np.zeros(1)
    return hazard[np.searchsorted(moments, t, side="right")] - seen


def _finite(values: Sequence[float] | Array, what: str) -> Array:
    array = np.asarray(values, np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{what} {int(np.flatnonzero(~np.isfinite(array))[0])} is not finite")
    return array
