"""The loss bump: a place where held-out loss is not convex in tokens."""

import numpy as np
import pytest

from induction_bump.locate.curve import Array, Curve, noise_of_stderrs
from induction_bump.locate.loss_bump import ConvexFit, LossBump, find_loss_bump, lower_hull

TOKENS = np.linspace(4e5, 5e6, 50)


def bump_of(loss: Array, seed: int = 0, jitter: float = 0.005) -> LossBump:
    random = np.random.default_rng(seed)
    values = loss + jitter * random.standard_normal(len(loss))
    curve = Curve(np.arange(1, 51), TOKENS.astype(np.int64), values, noise_of_stderrs(np.full(50, 0.02)))
    return find_loss_bump(curve, draws=99, random=random)


def test_a_sigmoid_fall_is_a_bump_around_its_shoulder():
    bump = bump_of(4.6 - 1.5 / (1 + np.exp(-(TOKENS - 3e6) / 1.5e5)))
    assert bump.found
    assert 2e6 < bump.tokens < 3e6
    assert bump.height > 0.5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "loss", [4 * (TOKENS / 4e5) ** -0.1, 4.6 - 1e-7 * TOKENS, 3 + np.exp(-TOKENS / 1e6)], ids=["power", "line", "exp"]
)
def test_a_loss_that_only_slows_down_has_none(loss: Array, seed: int):
    assert not bump_of(loss, seed).found


def test_a_shallow_bulge_is_told_and_not_called_a_bump():
    bump = bump_of(4.6 - 0.2 * ((TOKENS - 4e5) / 4.6e6) ** 2, jitter=0.001)
    assert bump.p <= 0.01
    assert bump.height < 0.1
    assert not bump.found


def test_the_convex_fit_of_a_convex_curve_is_the_curve():
    place = np.linspace(0, 1, 20)
    fitted, left = ConvexFit(place, np.eye(20)).fit((place - 0.4) ** 2)
    np.testing.assert_allclose(fitted, (place - 0.4) ** 2, atol=1e-8)
    assert left == pytest.approx(0, abs=1e-12)


def test_the_convex_fit_of_a_concave_curve_is_its_line():
    place = np.linspace(0, 1, 20)
    values = -((place - 0.4) ** 2)
    fitted, _ = ConvexFit(place, np.eye(20)).fit(values)
    np.testing.assert_allclose(fitted, np.polyval(np.polyfit(place, values, 1), place), atol=1e-8)


def test_the_lower_hull_touches_from_below():
    place, values = np.arange(5.0), np.array([2.0, 1.9, 0.0, 0.5, 0.4])
    assert lower_hull(place, values).tolist() == [0, 2, 4]


def test_few_snapshots_are_refused():
    curve = Curve(np.arange(1, 5), np.arange(1, 5), np.ones(4), noise_of_stderrs(np.ones(4)))
    with pytest.raises(ValueError, match="8 are the least"):
        find_loss_bump(curve, draws=9, random=np.random.default_rng(0))
