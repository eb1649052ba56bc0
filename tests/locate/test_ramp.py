"""Ramps: their tangents are where they say, and least squares on them is least squares."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from induction_bump.locate.noise import RELAXING_OVER, Relaxation
from induction_bump.locate.ramp import SHAPES, Ramps, RampSearch, designs, ramps_between

X = np.linspace(12.0, 16.0, 4001)


def ramp(onset: float, end: float, shape: int) -> Ramps:
    return Ramps(np.array([onset]), np.array([end]), np.array([shape]))


@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_the_steepest_tangent_goes_from_level_to_level_between_onset_and_end(shape: int):
    height = ramp(13.5, 14.1, shape).columns(X)[0][0]
    slopes = np.gradient(height, X)
    steepest = int(np.median(np.flatnonzero(slopes >= slopes.max() * (1 - 1e-6))))
    onset = X[steepest] - height[steepest] / slopes[steepest]
    end = X[steepest] + (1 - height[steepest]) / slopes[steepest]
    assert onset == pytest.approx(13.5, abs=0.01)
    assert end == pytest.approx(14.1, abs=0.01)


@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_a_ramp_rises_from_0_to_1_and_its_bend_from_0_to_the_distance_from_the_midpoint(shape: int):
    rising, bending = (column[0] for column in ramp(13.7, 14.0, shape).columns(X))
    assert (np.diff(rising) >= -1e-12).all()
    assert rising[0] == pytest.approx(0, abs=1e-3)
    assert rising[-1] == pytest.approx(1, abs=1e-3)
    assert bending[0] == pytest.approx(0, abs=1e-3)
    assert bending[-1] == pytest.approx(X[-1] - 13.85, abs=1e-3)


def test_sharp_corners_make_the_broken_line():
    design = designs(X, ramp(13.5, 14.5, 0))[0]
    before, slope, bend, drop = 0.2, -0.1, -0.3, -1.0
    fitted = design @ [before, slope, bend, drop]
    inner = np.array([12.0, 13.5, 14.5, 16.0])
    corners = np.interp(inner, X, fitted)
    np.testing.assert_allclose(fitted, np.interp(X, inner, corners), atol=2e-3)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, len(SHAPES) - 1), st.floats(12.6, 13.4), st.floats(0.1, 1.0), st.integers(0, 2**20), st.booleans()
)
def test_a_search_leaves_what_least_squares_leaves(shape: int, onset: float, width: float, seed: int, relaxes: bool):
    random = np.random.default_rng(seed)
    x = np.sort(random.uniform(12, 15, 30))
    mixing = random.standard_normal((30, 30)) + 8 * np.eye(30)
    one, values = ramp(onset, onset + width, shape), random.standard_normal((30, 2))
    relaxation = Relaxation(0.7) if relaxes else None
    fit = RampSearch(x, one, mixing, relaxation).fit(values)
    design = mixing @ designs(x, one, relaxation)[0]
    observed = mixing @ values
    if relaxes:  # gains of variance 1 are as likely as observations of 0 with that error
        design = np.vstack([design, np.eye(design.shape[1])[3:-1]])
        observed = np.vstack([observed, np.zeros((len(RELAXING_OVER), 2))])
    coefficients, left, rank, _ = np.linalg.lstsq(design, observed, rcond=None)
    if rank == design.shape[1]:
        np.testing.assert_allclose(fit.rss[0], left, rtol=1e-6)
        np.testing.assert_allclose(fit.drop[0], coefficients[-1], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(fit.drop_variance[0], np.linalg.inv(design.T @ design)[-1, -1], rtol=1e-5)


def test_a_relaxation_begins_at_the_end_of_its_ramp_and_gains_its_size_in_the_end():
    gained = designs(X, ramp(12.5, 13.0, 0), Relaxation(0.7))[0, :, 3:-1]
    assert gained.shape[1] == len(RELAXING_OVER)
    assert not gained[X <= 13.0].any()
    for column, over in zip(gained.T, RELAXING_OVER, strict=True):
        assert np.interp(13.0 + over, X, column) == pytest.approx(0.7 * (1 - np.exp(-1)), rel=1e-3)


def test_a_ramp_that_no_snapshot_sees_is_never_the_best():
    x = np.array([12.0, 12.5, 13.0, 14.0, 15.0, 15.5])
    unseen = ramp(15.6, 15.7, 0)
    assert np.isinf(RampSearch(x, unseen, np.eye(6)).fit(np.ones((6, 1))).rss).all()


def test_ramps_between_keep_those_that_are_wide_enough():
    grid = ramps_between(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]), np.array([0, 4]), 0.5)
    assert sorted(zip(grid.onset, grid.end, grid.shape, strict=True)) == [
        (onset, end, shape) for onset, end in ((1, 2), (1, 3), (2, 3)) for shape in (0, 4)
    ]
