"""Rank correlations within cells, against SciPy, enumeration and simulation."""

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from induction_bump.linking.correlations import within_cells


def test_one_cell_gives_spearmans_rho_also_with_ties():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=12), rng.integers(0, 5, 12).astype(float)
    found = within_cells(x, y, ["a"] * 12)
    assert found
    assert found.rho == pytest.approx(stats.spearmanr(x, y).statistic)


def test_p_of_a_small_cell_goes_through_all_rearrangements():
    x, y = [1.0, 2, 3, 4, 5], [2.0, 1, 3, 5, 4]
    found = within_cells(x, y, ["a"] * 5)
    assert found
    rho = [stats.spearmanr(x, z).statistic for z in permutations(y)]
    assert found.exact
    assert found.p == pytest.approx(np.mean(np.abs(rho) >= abs(found.rho) - 1e-12))
    perfect = within_cells(x, x, ["a"] * 5)
    assert perfect
    assert perfect.p == pytest.approx(2 / 120)


def test_what_a_sweep_moves_together_is_no_correlation():
    """Cells far apart in both quantities, unrelated within: pooled carelessly ρ is near 1."""
    rng = np.random.default_rng(1)
    cells = np.repeat(list("abcdef"), 5)
    x, y = (np.repeat(np.arange(6.0) * 10, 5) + rng.normal(size=30) for _ in range(2))
    assert stats.spearmanr(x, y).statistic > 0.9
    found = within_cells(x, y, cells)
    assert found
    assert abs(found.rho) < 0.5
    assert found.p > 0.05
    assert (found.n, found.cells) == (30, 6)


def test_two_cells_combine_their_ranks():
    found = within_cells([1, 2, 3, 10, 20, 30], [5, 6, 7, 3, 2, 1], list("aaabbb"))
    assert found
    assert found.rho == pytest.approx(0)
    same = within_cells([1, 2, 3, 10, 20, 30], [5, 6, 7, 1, 2, 3], list("aaabbb"))
    assert same
    assert (same.rho, same.p) == (pytest.approx(1), pytest.approx(2 / 36))


def test_the_interval_covers_the_truth():
    """Normal with r = 0.7: ρ = (6/π) arcsin(r/2) = 0.683, over cells that lie apart."""
    truth, covered = 6 / np.pi * np.arcsin(0.35), 0
    rng = np.random.default_rng(2)
    for _ in range(200):
        z = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], 24)
        found = within_cells(z[:, 0], z[:, 1], ["a"] * 24)
        assert found
        covered += found.low <= truth <= found.high
    assert covered / 200 > 0.9


def test_cells_that_say_nothing_are_set_aside():
    assert within_cells([1, 2, 3], [1, 2, 3], list("abc")) is None
    found = within_cells([1, 2, 3, 4, 9, 7, 7], [1, 2, 3, 4, 9, 1, 2], list("aaaabcc"))
    assert found
    assert (found.n, found.cells) == (4, 1)


def test_censored_times_are_refused():
    with pytest.raises(ValueError, match="censored"):
        within_cells([1, np.inf], [1, 2], ["a", "a"])
    with pytest.raises(ValueError, match="do not belong"):
        within_cells([1, 2], [1], ["a", "a"])


@pytest.mark.parametrize("sign", [1, -1])
def test_four_runs_in_the_same_order_leave_the_correlation_open(sign: int):
    """Fisher's interval around ±0.8, the next smaller ρ of four runs, up to ±1."""
    found = within_cells([1, 2, 3, 4], sign * np.arange(4.0), ["a"] * 4)
    assert found
    near, far = (found.high, found.low) if sign > 0 else (found.low, found.high)
    assert (found.rho, near) == (pytest.approx(sign), sign)
    assert sign * far == pytest.approx(np.tanh(np.arctanh(0.8) - 1.959964 * np.sqrt(1.32)))


@pytest.mark.parametrize("y", [[1, 2, 2, 5, 6], [1, 2, 2, 2, 3], [1, 1, 4, 4, 4]])
def test_the_next_smaller_correlation_is_that_of_going_through_all_rearrangements(y: list[int]):
    ties = np.array(y, float)
    found = within_cells(ties, ties, ["a"] * 5)
    assert found
    below = max(rho for z in permutations(ties) if (rho := stats.spearmanr(ties, z).statistic) < 1 - 1e-9)
    assert found.low == pytest.approx(np.tanh(np.arctanh(below) - 1.959964 * np.sqrt((1 + below**2 / 2) / 2)))


@pytest.mark.parametrize("n", range(4, 9))
def test_the_interval_of_few_runs_covers_the_truth(n: int):
    """Normal with r = 0.8, where one of a few draws puts all runs in the same order."""
    truth, rng = 6 / np.pi * np.arcsin(0.4), np.random.default_rng(n)
    drawn = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], (2000, n))
    x, y = (np.argsort(np.argsort(drawn[..., side], axis=1), axis=1) for side in (0, 1))
    orders = np.take_along_axis(y, np.argsort(x, axis=1), axis=1)
    apart = ((orders - np.arange(n)) ** 2).sum(axis=1)  # ρ = 1 − 6 Σ d² / (n³ − n)
    covered = 0
    for value in np.unique(apart):
        alike = apart == value
        found = within_cells(np.arange(n), orders[alike][0], ["a"] * n)
        assert found
        covered += alike.sum() * (found.low <= truth <= found.high)
    assert covered / 2000 >= 0.9
