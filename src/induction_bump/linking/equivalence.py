"""Whether two groups are the same to within a margin, and how many seeds it takes to tell.

That a difference was not found says nothing about sameness: two one-sided tests (TOST) do, and p is small where the
difference lies within the margin.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
MOST_SEEDS = 1000
"""Beyond these no number of seeds is named."""
_CERTAIN = 5.0
"""An effect in standard deviations that the least number of seeds finds 99.99 times in 100."""


@dataclass(frozen=True)
class Equivalence:
    """The most different two of some groups, held against a margin."""

    p: float
    """Of the hypothesis that some two groups differ by the margin or more."""
    margin: float
    difference: float
    """Between the means of the two groups that are hardest to call the same: the second minus the first."""
    low: float
    high: float
    """Its 90 % interval: within ±margin exactly where p < 0.05."""
    groups: tuple[str, str]

    @property
    def differ(self) -> bool:
        """Whether the interval lies wholly outside the margin."""
        return self.low >= self.margin or self.high <= -self.margin


def equivalence(groups: Mapping[str, Sequence[float] | Array], margin: float) -> Equivalence:
    """Two one-sided Welch tests for each two groups, of which the worst counts (an intersection-union test).

    groups: name → one value a seed. All are alike only where each two are, so no correction for many is due.
    Raises ValueError for fewer than two groups, fewer than two values in one, or a margin that is not positive.
    """
    if margin <= 0:
        raise ValueError(f"the margin {margin} must be positive")
    if len(groups) < 2:
        raise ValueError(f"sameness needs at least two groups, not {len(groups)}")
    for name, values in groups.items():
        if len(values) < 2:
            raise ValueError(f"{name}: a spread over seeds needs at least two of them, not {len(values)}")
    found = [_pair(one, other, groups, margin) for one, other in combinations(groups, 2)]
    return max(found, key=lambda pair: (pair.p, abs(pair.difference)))


def _pair(one: str, other: str, groups: Mapping[str, Sequence[float] | Array], margin: float) -> Equivalence:
    from statsmodels.stats.weightstats import CompareMeans, DescrStatsW, ttost_ind  # slow to load

    x, y = (np.asarray(groups[name], np.float64) for name in (one, other))
    difference = float(y.mean() - x.mean())
    if x.std() == 0 and y.std() == 0:  # Welch's degrees of freedom are 0/0
        return Equivalence(float(abs(difference) >= margin), margin, difference, difference, difference, (one, other))
    p = float(ttost_ind(y, x, -margin, margin, usevar="unequal")[0])
    low, high = CompareMeans(DescrStatsW(y), DescrStatsW(x)).tconfint_diff(alpha=0.1, usevar="unequal")
    return Equivalence(p, margin, difference, float(low), float(high), (one, other))


def seeds_for_difference(effect: float, spread: float, *, paired: bool, power: float = 0.8) -> int | None:
    """Seeds a cell (or pairs) with which a two-sided test at 0.05 finds `effect` with this power.

    effect: the true difference of means; spread: standard deviation over seeds (of the pairs' differences where
    `paired`), in the same unit. By Student's t (statsmodels), and at least as many as make an exact p of 0.05 possible:
    6 pairs, or 4 + 4. None where more than `MOST_SEEDS` would be needed, or the effect is 0.
    """
    from statsmodels.stats.power import TTestIndPower, TTestPower

    solver, least = (TTestPower(), 6) if paired else (TTestIndPower(), 4)
    if effect == 0:
        return None
    size = abs(effect) / max(spread, 1e-12)
    for n in _numbers(least):
        # SciPy's noncentral t gives NaN here and there where the power is 1 to many digits
        if size >= _CERTAIN or not solver.power(size, n, 0.05, alternative="two-sided") < power:
            return n
    return None


def seeds_for_equivalence(margin: float, spread: float, power: float = 0.8) -> int | None:
    """Seeds a cell with which two cells that are truly alike pass the test of `equivalence` with this power.

    With standard error s = spread · √(2/n) and 2n − 2 degrees of freedom, the power is 2 F(margin/s − t₀.₉₅) − 1.
    None where more than `MOST_SEEDS` would be needed.
    """
    from scipy.stats import t

    for n in _numbers(2):
        standard_error, freedom = max(spread, 1e-12) * np.sqrt(2 / n), 2 * n - 2
        if 2 * t.cdf(margin / standard_error - t.ppf(0.95, freedom), freedom) - 1 >= power:
            return n
    return None


def _numbers(least: int) -> range:
    return range(least, MOST_SEEDS + 1)
