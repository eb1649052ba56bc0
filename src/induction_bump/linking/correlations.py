"""Rank correlation of two quantities over the seeds of a cell, and over cells without comparing across them.

Over a sweep's cells any two times correlate, because the sweep moves both; so ranks are taken within each cell and only
then put together (docs/linking.md#runs-are-the-unit).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
FEWEST = 4
"""Runs below which a cell's own correlation is not told."""
_MOST_ENUMERATED = 50_000
_DRAWN = 9_999


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's ρ over runs."""

    rho: float
    low: float
    high: float
    """95 % interval after Fisher, with the standard error of Bonett and Wright (2000) for ranks, √((1 + ρ²/2)/(n − 3)),
    one run fewer for each further cell. Where |ρ| = 1 it lies around the next smaller |ρ| and reaches to ±1."""
    p: float
    """Two-sided, over rearrangements within cells."""
    exact: bool
    n: int
    cells: int


def within_cells(
    x: Sequence[float] | Array, y: Sequence[float] | Array, cells: Sequence[str]
) -> RankCorrelation | None:
    """Correlate the ranks that runs have within their own cell; one cell gives Spearman's ρ itself.

    Ranks are centred in each cell, and ρ is Σ r_x r_y / √(Σ r_x² Σ r_y²) over all runs of all cells: the correlation of
    ranks given the cell. Ties share their mean rank. p comes from permuting y within cells, all ways where these are at
    most 50,000 (8 runs in one cell), else 9,999 at random.

    x, y: one value a run, finite; cells: the cell of each. None where fewer than `FEWEST` runs are left once cells with
    one run or without any spread are set aside. Raises ValueError for arrays of different length.
    """
    first, second, names = np.asarray(x, np.float64), np.asarray(y, np.float64), np.asarray(cells, str)
    if not first.shape == second.shape == names.shape:
        raise ValueError(f"{len(first)}, {len(second)} and {len(names)} values do not belong to the same runs")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("ranks need finite values; leave out runs whose time is censored")
    parts = [
        (_centred_ranks(first[here]), _centred_ranks(second[here])) for here in (names == c for c in np.unique(names))
    ]
    parts = [(a, b) for a, b in parts if a.any() and b.any()]
    n, k = sum(len(a) for a, _ in parts), len(parts)
    if n < FEWEST:
        return None
    scale = np.sqrt(sum(a @ a for a, _ in parts) * sum(b @ b for _, b in parts))
    rho = float(sum(a @ b for a, b in parts) / scale)
    drawn, exact = _rearranged(parts)
    # a rearrangement that gives the same ρ must count as reaching it whatever rounding does
    reached = np.abs(drawn) / scale >= abs(rho) - 1e-12
    p = float(reached.mean()) if exact else float((reached.sum() + 1) / (len(drawn) + 1))
    low, high = _fisher(rho, 1 - min(_least_step(a) for a, _ in parts) / float(scale), n - k - 2)
    return RankCorrelation(rho, low, high, p, exact, n, k)


def _fisher(rho: float, below_one: float, freedom: int) -> tuple[float, float]:
    """95 % interval around ρ. At |ρ| = 1, where Fisher's has no width, around ±`below_one` and on to ±1."""
    perfect = abs(rho) > 1 - 1e-12
    centre = float(np.copysign(below_one, rho)) if perfect else rho
    half = 1.959964 * np.sqrt((1 + centre**2 / 2) / freedom) if freedom > 0 else np.inf
    low, high = (float(np.tanh(np.arctanh(centre) + side * half)) for side in (-1, 1))
    if perfect:
        return (low, 1.0) if rho > 0 else (-1.0, high)
    return low, high


def _least_step(ranks: Array) -> float:
    """The least that Σ r_x² loses where two runs with different ranks change places in one of the two factors."""
    return float(np.diff(np.unique(ranks)).min() ** 2)


def _centred_ranks(values: Array) -> Array:
    from scipy.stats import rankdata

    return rankdata(values) - (len(values) + 1) / 2


def _rearranged(parts: list[tuple[Array, Array]]) -> tuple[Array, bool]:
    """Σ r_x r_y for all rearrangements of r_y within cells, or for random ones, and whether these are all."""
    from itertools import permutations
    from math import factorial, prod

    if prod(factorial(len(a)) for a, _ in parts) <= _MOST_ENUMERATED:
        sums = np.zeros(1)
        for a, b in parts:
            own = np.array(list(permutations(b))) @ a
            sums = (sums[:, None] + own[None, :]).ravel()
        return sums, True
    rng = np.random.default_rng(0)
    return sum((rng.permuted(np.tile(b, (_DRAWN, 1)), axis=1) @ a for a, b in parts), np.zeros(_DRAWN)), False
