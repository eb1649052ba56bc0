"""The likelihood of log-normal times that are bracketed."""

import math

import numpy as np
import pytest

from induction_bump.locate.lognormal import Brackets, LogNormal, ln_between


def narrow(logs: np.ndarray) -> Brackets:
    return Brackets(logs - 1e-4, logs + 1e-4)


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
    covariance = np.linalg.inv(fit.information)[:2, :2] * fit.correction**2
    np.testing.assert_allclose(covariance, np.linalg.inv(design.T @ design) * residual[0] / 18, rtol=1e-3)


@pytest.mark.parametrize("runs", [3, 8])
def test_the_interval_of_the_spread_of_known_times_holds_it_nine_times_in_ten(runs: int):
    random = np.random.default_rng(1)
    intervals = [LogNormal(narrow(random.normal(14, 0.1, runs))).sigma_interval for _ in range(100)]
    assert 0.83 <= np.mean([low <= 0.1 <= high for low, high in intervals]) <= 0.97


def test_a_run_of_which_nothing_is_known_changes_nothing():
    logs = np.array([14.0, 14.1, 14.3, 14.2])
    known, more = LogNormal(narrow(logs)), narrow(logs)
    with_open = LogNormal(Brackets(np.append(more.low, -math.inf), np.append(more.high, math.inf)))
    assert with_open.mean_interval == pytest.approx(known.mean_interval)
    assert with_open.sigma == pytest.approx(known.sigma)


def test_a_median_in_one_bracket_is_its_middle():
    fit = LogNormal(Brackets(np.full(8, 14.0), np.full(8, 14.2)))
    assert fit.sigma is None
    assert fit.mean == pytest.approx(14.1, abs=1e-3)
