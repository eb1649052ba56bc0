"""Whether two groups are the same to within a margin, and how many seeds it takes to tell.

That a difference was not found says nothing about sameness: two one-sided tests (TOST) do, and p is small where the
difference lies within the margin.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from induction_bump.linking.permutation import smallest_paired, smallest_unpaired

Array = npt.NDArray[np.float64]
Pair = tuple[str, str]
LEVEL = 0.05
MOST_SEEDS = 1000
"""Beyond these no number of seeds is named."""
_CERTAIN = 5.0
"""An effect in standard deviations that the least number of seeds finds 99.99 times in 100."""


@dataclass(frozen=True)
class Equivalence:
    """Two groups held against a margin."""

    p: float
    """Of the hypothesis that they differ by the margin or more."""
    p_differ: float
    """Of the hypothesis that they differ by no more than the margin, corrected for all pairs compared (Holm)."""
    margin: float
    difference: float
    """Between the means of the two groups: the second minus the first."""
    low: float
    high: float
    """Its 90 % interval: within ±margin exactly where p < 0.05."""
    groups: Pair

    @property
    def same(self) -> bool:
        """Whether a difference of the margin or more is excluded."""
        return self.p < LEVEL

    @property
    def differ(self) -> bool:
        """Whether a difference within the margin is excluded, allowing for how many pairs were looked at."""
        return self.p_differ <= LEVEL


def equivalence(
    groups: Mapping[str, Sequence[float] | Array], margin: float, pairs: Iterable[Pair] | None = None
) -> Equivalence:
    """The pair that decides whether all are alike: one that differs, else the one that is hardest to call the same.

    All are alike only where each two are (an intersection-union test), so `same` needs no correction for many pairs;
    that some two differ is found by chance the more easily, the more there are, so `differ` is corrected. groups, pairs
    and errors are those of `compare_pairs`.
    """
    found = compare_pairs(groups, margin, pairs)
    return max(found, key=lambda pair: (pair.differ, -pair.p_differ if pair.differ else pair.p, abs(pair.difference)))


def compare_pairs(
    groups: Mapping[str, Sequence[float] | Array], margin: float, pairs: Iterable[Pair] | None = None
) -> list[Equivalence]:
    """Two one-sided Welch tests for each of some pairs of groups, in their order; by default for every two.

    groups: name → one value a seed. Raises ValueError for fewer than two groups, fewer than two values in one, or a
    margin that is not positive.
    """
    if margin <= 0:
        raise ValueError(f"the margin {margin} must be positive")
    if len(groups) < 2:
        raise ValueError(f"sameness needs at least two groups, not {len(groups)}")
    for name, values in groups.items():
        if len(values) < 2:
            raise ValueError(f"{name}: a spread over seeds needs at least two of them, not {len(values)}")
    found = [_pair(pair, groups, margin) for pair in (combinations(groups, 2) if pairs is None else pairs)]
    corrected = holm([pair.p_differ for pair in found])
    return [replace(pair, p_differ=p) for pair, p in zip(found, corrected, strict=True)]


def holm(p: Sequence[float]) -> list[float]:
    """p of several tests, each corrected for all of them (Holm 1979)."""
    values = np.asarray(p, np.float64)
    order = np.argsort(values)
    corrected = np.empty_like(values)
    corrected[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return np.minimum(corrected, 1.0).tolist()


def _pair(names: Pair, groups: Mapping[str, Sequence[float] | Array], margin: float) -> Equivalence:
    from scipy.special import stdtr, stdtrit  # many times faster than the distributions of scipy.stats

    x, y = (np.asarray(groups[name], np.float64) for name in names)
    difference = float(y.mean() - x.mean())
    variances = np.array([x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)])
    if not variances.any():  # Welch's degrees of freedom are 0/0
        apart = abs(difference) >= margin
        return Equivalence(float(apart), float(not apart), margin, difference, difference, difference, names)
    stderr = float(np.sqrt(variances.sum()))
    freedom = float(variances.sum() ** 2 / (variances**2 / (np.array([len(x), len(y)]) - 1)).sum())
    beyond, half = (abs(difference) - margin) / stderr, float(stdtrit(freedom, 0.95)) * stderr
    # where the true difference is the margin, it can seem larger on either side of 0
    p_differ = float(stdtr(freedom, -beyond) + stdtr(freedom, -beyond - 2 * margin / stderr))
    p = float(stdtr(freedom, beyond))
    return Equivalence(p, min(p_differ, 1.0), margin, difference, difference - half, difference + half, names)


def seeds_for_difference(
    effect: float, spread: float, *, paired: bool, power: float = 0.8, level: float = LEVEL, more_than: int = 1
) -> int | None:
    """Seeds a cell (or pairs), more than so many, with which a two-sided test at `level` finds `effect`.

    effect: the true difference of means; spread: standard deviation over seeds (of the pairs' differences where
    `paired`), in the same unit. With this power by Student's t (statsmodels), and at least as many as make so small an
    exact p possible: at 0.05, 6 pairs or 4 + 4. None where more than `MOST_SEEDS` would be needed, or the effect is 0.
    """
    from statsmodels.stats.power import TTestIndPower, TTestPower  # slow to load

    if effect == 0:
        return None
    solver = TTestPower() if paired else TTestIndPower()
    size = abs(effect) / max(spread, 1e-12)
    for n in _numbers(more_than + 1):
        smallest = smallest_paired(n) if paired else smallest_unpaired(n, n)
        # SciPy's noncentral t gives NaN here and there where the power is 1 to many digits
        if smallest <= level and (
            size >= _CERTAIN or not solver.power(size, n, level, alternative="two-sided") < power
        ):
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
