"""The likelihood of log-normal times that are bracketed."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from induction_bump.locate.lognormal import LogNormal, ln_between
from induction_bump.locate.sighting import Sightings


def bracketed(low: npt.ArrayLike, high: npt.ArrayLike) -> Sightings:
    lows, highs = np.broadcast_arrays(np.asarray(low, float), high)
    return Sightings(lows, highs, np.full(len(lows), np.nan), np.full(len(lows), np.inf))


def placed(logs: np.ndarray, stderrs: np.ndarray | float, end: float = math.inf) -> Sightings:
    open_, ends = np.full(len(logs), -math.inf), np.full(len(logs), end)
    return Sightings(open_, ends, logs, np.broadcast_to(stderrs, logs.shape))


def together(*parts: Sightings) -> Sightings:
    return Sightings(*(np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])))


def narrow(logs: np.ndarray) -> Sightings:
    return bracketed(logs - 1e-4, logs + 1e-4)


def test_the_probability_between_two_ends_is_exact_in_both_tails():
    from scipy.special import log_ndtr

    low, high = np.array([-math.inf, 1.0, 40.0, -41.0, 2.0]), np.array([1.0, math.inf, 41.0, -40.0, 2.0])
    tail = log_ndtr(-40) + math.log1p(-math.exp(log_ndtr(-41) - log_ndtr(-40)))
    expected = [log_ndtr(1.0), log_ndtr(-1.0), tail, tail, -math.inf]
    np.testing.assert_allclose(ln_between(low, high), expected, rtol=1e-12)


def test_narrow_brackets_give_least_squares_on_a_design():
    random = np.random.default_rng(0)
    design = np.column_stack([np.ones(20), random.normal(size=20)])
    logs = design @ [12, 0.5] + 0.1 * random.normal(size=20)
    fit = LogNormal(narrow(logs), design)
    beta, residual, *_ = np.linalg.lstsq(design, logs, rcond=None)
    np.testing.assert_allclose(fit.coefficients, beta, atol=1e-5)
    assert fit.sigma == pytest.approx(math.sqrt(residual[0] / 18), rel=1e-3)
    np.testing.assert_allclose(fit.covariance, np.linalg.inv(design.T @ design) * residual[0] / 18, rtol=1e-3)


@pytest.mark.parametrize("runs", [3, 8])
def test_the_interval_of_the_spread_of_known_times_holds_it_nine_times_in_ten(runs: int):
    random = np.random.default_rng(1)
    intervals = [LogNormal(narrow(random.normal(14, 0.1, runs))).sigma_interval for _ in range(100)]
    assert 0.83 <= np.mean([low <= 0.1 <= high for low, high in intervals]) <= 0.97


def test_a_run_of_which_nothing_is_known_changes_nothing():
    logs = np.array([14.0, 14.1, 14.3, 14.2])
    known, more = LogNormal(narrow(logs)), narrow(logs)
    with_open = LogNormal(bracketed(np.append(more.low, -math.inf), np.append(more.high, math.inf)))
    assert with_open.mean_interval == pytest.approx(known.mean_interval)
    assert with_open.sigma == pytest.approx(known.sigma)


def test_a_median_in_one_bracket_is_its_middle():
    fit = LogNormal(bracketed(np.full(8, 14.0), np.full(8, 14.2)))
    assert fit.sigma == 0
    assert fit.mean == pytest.approx(14.1, abs=1e-3)


def test_equal_errors_are_taken_out_of_the_variance_and_leave_the_mean_as_it_is():
    logs, s = np.random.default_rng(3).normal(14, 0.2, 9), 0.1
    known, fit = LogNormal(narrow(logs)), LogNormal(placed(logs, s))
    assert fit.sigma == pytest.approx(math.sqrt(logs.var(ddof=1) - s**2), rel=1e-3)
    assert fit.mean == pytest.approx(logs.mean(), abs=1e-6)
    assert fit.covariance[0, 0] == pytest.approx(logs.var(ddof=1) / 9, rel=1e-3)
    assert fit.mean_interval == pytest.approx(known.mean_interval, abs=1e-3)
    expected = [math.sqrt(end**2 - s**2) for end in known.sigma_interval]
    assert fit.sigma_interval == pytest.approx(expected, rel=1e-3)


def test_a_time_that_is_badly_placed_counts_less():
    logs = np.array([14.0, 14.1, 14.3, 14.2, 16.0])
    fit, without = (LogNormal(placed(logs[:n], np.array([0.02] * 4 + [5.0])[:n])) for n in (5, 4))
    assert fit.mean == pytest.approx(without.mean, abs=0.01)
    assert fit.sigma == pytest.approx(without.sigma, rel=0.05)


def test_the_likelihood_is_the_integral_over_all_times_that_a_run_may_have():
    """With errors, ends of training and a bracket; the naive way, and at its largest in mean and spread."""
    from scipy.integrate import quad
    from scipy.stats import norm

    logs, stderrs, end = np.array([14.0, 14.25, 14.1, 14.2]), np.array([0.05, 0.1, 0.2, 0.1]), 14.3
    fit = LogNormal(together(placed(logs, stderrs, end), bracketed([end, 14.0], [math.inf, 14.1])))

    def naive(mean: float, sigma: float) -> float:
        total = math.log(norm.sf(end, mean, sigma)) + math.log(
            norm.cdf(14.1, mean, sigma) - norm.cdf(14.0, mean, sigma)
        )
        for y, s in zip(logs, stderrs, strict=True):
            either = lambda t, y=y, s=s: norm.pdf(y, t, s) * norm.pdf(t, mean, sigma)  # noqa: E731
            total += math.log(quad(either, mean - 2, end, points=[y, mean])[0])
        return total - math.log((1 / (sigma**2 + stderrs**2)).sum() + 1 / max(sigma, 0.05) ** 2) / 2

    mean, sigma = fit.mean, fit.sigma
    assert fit.maximum == pytest.approx(naive(mean, sigma), abs=1e-4)
    for other in ((mean + 0.02, sigma), (mean - 0.02, sigma), (mean, 1.2 * sigma), (mean, sigma / 1.2)):
        assert naive(*other) < fit.maximum


def test_runs_that_are_badly_placed_and_runs_that_were_too_short_do_not_speak_for_one_time():
    """Half of the runs end too early: were those that are placed not known to lie before that, all could be at it."""
    random, end = np.random.default_rng(6), 14.0
    logs = -np.abs(0.1 * random.standard_normal(12)) + end
    seen = placed(logs + 0.2 * random.standard_normal(12), 0.2, end)
    fit = LogNormal(together(seen, bracketed(np.full(12, end), math.inf)))
    low, high = fit.mean_interval
    assert low < end < high
    assert fit.sigma_interval[1] > 0.1
