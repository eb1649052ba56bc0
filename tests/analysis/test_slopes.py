"""Slopes in a logarithm, and components of token losses, where the answer is known."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "analysis"))
import slopes
from measured_run import MissingError
from token_components import principal_components


def test_a_straight_line_in_the_logarithm_has_one_slope_however_the_places_lie() -> None:
    at = np.array([1e3, 2e3, 5e4, 6e4, 6.1e4, 6.2e4, 6.3e4, 9e6])
    np.testing.assert_allclose(slopes.slope_in_log(at, 3 - 0.7 * np.log(at)), -0.7)
    both = np.stack([0.2 * np.log(at), np.ones(len(at))], axis=1)
    np.testing.assert_allclose(slopes.slope_in_log(at, both), np.tile([0.2, 0.0], (len(at), 1)), atol=1e-12)


def test_noise_between_crowded_places_is_fitted_over_and_not_differentiated() -> None:
    at = np.linspace(4e6, 5e6, 201)
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(at))
    found = slopes.slope_in_log(at, -0.5 * np.log(at) + noise)
    assert np.abs(found + 0.5).max() < 0.2
    assert np.abs(np.gradient(noise, np.log(at))).max() > 5  # what neighbours alone would say


def test_one_place_has_no_slope() -> None:
    with pytest.raises(ValueError, match="two places"):
        slopes.slope_in_log([1.0], [2.0])


def test_a_loss_that_falls_in_ln_k_has_that_slope_at_every_position_and_moment() -> None:
    position = np.tile(np.arange(1, 129), 2)
    step = np.repeat([0, 10], 128)
    table = pd.DataFrame({"step": step, "tokens": 64 * step, "position": position})
    table["loss"] = 5 - np.where(step == 0, 0.0, 0.3) * np.log(position)
    found = slopes.slopes_by_position(table)
    assert found.groupby("step")["position"].nunique().min() > 10
    np.testing.assert_allclose(found["value"], np.where(found["step"] == 0, 0.0, -0.3), atol=1e-12)


def test_components_are_those_of_the_covariance() -> None:
    rng = np.random.default_rng(1)
    losses = rng.standard_normal((30, 6)) * [3, 1, 1, 0.5, 0.5, 0.1]
    places, shares = principal_components(losses)
    sizes, axes = np.linalg.eigh(np.cov(losses.T))
    np.testing.assert_allclose(shares, sizes[::-1][:2] / sizes.sum())
    projected = (losses - losses.mean(0)) @ axes[:, ::-1][:, :2]
    np.testing.assert_allclose(np.abs(places), np.abs(projected), atol=1e-10)


def test_fewer_components_than_asked_for_leave_the_rest_at_zero() -> None:
    places, shares = principal_components(np.array([[1.0, 2.0], [2.0, 4.0]]))
    np.testing.assert_allclose(places[:, 1], 0, atol=1e-12)
    np.testing.assert_allclose(shares, [1, 0], atol=1e-12)


def test_one_snapshot_has_no_components() -> None:
    with pytest.raises(MissingError, match="two snapshots"):
        principal_components(np.array([[1.0, 2.0]]))
