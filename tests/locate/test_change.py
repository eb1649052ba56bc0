"""The phase change of a curve: found where it is, not where there is none, and the same each time."""

import math

import numpy as np
import pytest

from benchmarks.simulated_curves import Setting, draw, truth
from induction_bump.locate import noise
from induction_bump.locate.change import ABRUPT, Change, TooFewSnapshotsError, find_change
from induction_bump.locate.curve import Curve, noise_of_examples, noise_of_stderrs
from induction_bump.locate.placing import Place, Placing
from induction_bump.locate.ramp import Ramps, coarse_ramps, designs
from induction_bump.locate.verdict import judge

MIDDLE = Setting()


def located(setting: Setting, seed: int = 0) -> Change:
    random = np.random.default_rng(seed)
    return find_change(draw(setting, random), direction=-1, random=random, least_final=0.1)


def placed(setting: Setting, seed: int = 0) -> Place:
    place = located(setting, seed).place
    assert place is not None
    return place


@pytest.mark.parametrize(
    "setting",
    [MIDDLE, MIDDLE.but(logistic=True), MIDDLE.but(grid="log", place=0.4), MIDDLE.but(drop=2.5, relaxing=0.4)],
    ids=["straight", "logistic", "early", "relaxing"],
)
def test_a_change_is_found_where_it_is(setting: Setting):
    place, known = placed(setting), truth(setting)
    assert math.log(place.onset.value) == pytest.approx(known.onset, abs=0.04)
    assert math.log(place.end.value) == pytest.approx(known.end, abs=0.04)
    assert place.midpoint.low < math.exp((known.onset + known.end) / 2) < place.midpoint.high
    for interval in (place.onset, place.midpoint, place.end, place.width, place.drop):
        assert interval.low <= interval.value <= interval.high


RELAXING = MIDDLE.but(relaxing=0.6)


def test_what_is_gained_after_the_end_does_not_draw_it_out(monkeypatch: pytest.MonkeyPatch):
    def bias(places: list[Place]) -> float:
        return float(np.mean([math.log(place.end.value) for place in places])) - truth(RELAXING).end

    relaxing = [placed(RELAXING, seed) for seed in range(6)]
    assert sum(place.relaxing > 0 for place in relaxing) >= 4
    monkeypatch.setattr(noise, "RELAXING", ())
    straight = [placed(RELAXING, seed) for seed in range(6)]
    assert not any(place.relaxing for place in straight)
    assert abs(bias(relaxing)) < bias(straight) / 2


def test_the_ramp_of_a_curve_that_relaxes_is_that_of_the_normal_equations():
    curve, known = draw(RELAXING, np.random.default_rng(0)), truth(RELAXING)
    falling = Curve(curve.steps, curve.tokens, -curve.values, curve.probe)
    ramp = Ramps(np.array([known.onset]), np.array([known.end]), np.array([0]))
    placing = Placing.about(falling, coarse_ramps(curve.x), ramp, 20, np.random.default_rng(0))
    assert placing
    assert placing.noise.relaxation
    design = designs(curve.x, placing.grid.take(np.array([placing.best])), placing.noise.relaxation)[0]
    precision, prior = np.linalg.inv(placing.noise.covariance), np.zeros(design.shape[1])
    prior[3:-1] = 1.0
    solved = np.linalg.solve(design.T @ precision @ design + np.diag(prior), design.T @ precision @ falling.values)
    np.testing.assert_allclose(placing._ramp_at(placing.best, curve.x), design @ solved, rtol=1e-6, atol=1e-8)
    assert placing.fit.drop[placing.best, 0] == pytest.approx(solved[-1], rel=1e-6)


def test_the_verdict_tells_abrupt_from_gradual():
    assert judge(located(MIDDLE), 0.1, " nats")[0] == "abrupt"
    verdict, rule = judge(located(MIDDLE.but(width=2.0, jitter=0.003)), 0.1, " nats")
    assert verdict == "gradual"
    assert "> ln 3 = 1.10" in rule


def test_a_drop_that_is_too_small_is_none():
    verdict, rule = judge(located(MIDDLE.but(drop=0.06, jitter=0.001, before=0.0, after=0.0, examples=2000)), 0.1, "")
    assert verdict == "none"
    assert "< 0.1" in rule


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "drift",
    [lambda u: -0.1 * u, lambda u: -0.04 * u**2, lambda u: 0.5 * np.exp(-0.6 * u)],
    ids=["line", "curved", "power law"],
)
def test_drifts_are_no_change(drift, seed: int):
    verdict, _ = judge(located(MIDDLE.but(drift=drift), seed), 0.1, " nats")
    assert verdict in ("none", "undetermined")


def test_a_change_that_never_ends_is_not_called_one():
    verdict, _ = judge(located(MIDDLE.but(drift=lambda u: -1.5 * np.maximum(u - 2.5, 0.0))), 0.1, " nats")
    assert verdict == "undetermined"


def test_the_same_curve_gives_the_same_answer():
    first, second = (located(MIDDLE.but(logistic=True)) for _ in range(2))
    assert first.place is not None
    assert second.place is not None
    assert (first.p, first.place.onset, first.place.drop) == (second.p, second.place.onset, second.place.drop)


def test_a_rising_quantity_is_the_falling_one_upside_down():
    curve = draw(MIDDLE, np.random.default_rng(0))
    upside = Curve(curve.steps, curve.tokens, -curve.values, curve.probe)
    falls, rises = (
        find_change(c, direction=d, random=np.random.default_rng(1)).place for c, d in ((curve, -1), (upside, 1))
    )
    assert falls is not None
    assert rises is not None
    assert falls.onset == rises.onset
    assert falls.value_after == -rises.value_after


def test_more_jitter_widens_the_interval():
    quiet, loud = (placed(MIDDLE.but(jitter=jitter)).midpoint for jitter in (0.003, 0.03))
    assert math.log(loud.high / loud.low) > 1.5 * math.log(quiet.high / quiet.low)


def test_between_two_snapshots_the_onset_is_known_to_within_them():
    setting = MIDDLE.but(width=0.005, snapshots=30, grid="log")
    curve = draw(setting, np.random.default_rng(0))
    place = placed(setting)
    at = math.exp(truth(setting).onset)
    before, after = curve.tokens[curve.tokens <= at][-1], curve.tokens[curve.tokens > at][0]
    assert place.onset.low <= at <= place.onset.high
    assert place.midpoint.high / place.midpoint.low > (after / before) ** 0.3


def test_the_share_is_of_the_last_value():
    place = placed(MIDDLE.but(drop=1.0, before=0.0, after=0.0))
    assert place.share is not None
    assert place.share.value == pytest.approx(1.0, abs=0.1)
    assert place.width.high < ABRUPT


def test_few_snapshots_are_refused():
    curve = draw(MIDDLE, np.random.default_rng(0))
    with pytest.raises(TooFewSnapshotsError, match="8 snapshots; 12 are the least"):
        find_change(curve.part(np.arange(len(curve)) < 8), direction=-1, random=np.random.default_rng(0))


def test_the_noise_of_examples_has_their_clustered_variance():
    random = np.random.default_rng(0)
    documents = np.repeat(np.arange(40), 3)
    values = random.standard_normal((20, 40))[:, documents] + 0.1 * random.standard_normal((20, 120))
    probe = noise_of_examples(values, documents)
    sums = np.array([(values - values.mean(1, keepdims=True))[:, documents == d].sum(1) for d in range(40)])
    np.testing.assert_allclose(probe.variance, 40 / 39 * (sums**2).sum(0) / 120**2)
    tokens = np.arange(1.0, 21.0)
    np.testing.assert_allclose(np.diag(probe.covariance(tokens)), probe.variance)
    with pytest.raises(ValueError, match="at least two documents"):
        noise_of_examples(values, np.zeros(120, np.int64))


def test_of_standard_errors_a_share_is_common_to_all_snapshots():
    probe = noise_of_stderrs(np.array([0.1, 0.2]))
    covariance = probe.covariance(np.array([1.0, 2.0]), share=0.25)
    np.testing.assert_allclose(np.diag(covariance), [0.01, 0.04])
    assert covariance[0, 1] == pytest.approx(0.75 * 0.1 * 0.2)


def test_a_curve_that_moves_the_other_way_has_no_change():
    curve = draw(MIDDLE, np.random.default_rng(0))
    change = find_change(curve, direction=+1, random=np.random.default_rng(1))
    assert judge(change, 0.1, " nats")[0] in ("none", "undetermined")


def test_any_step_without_noise_is_placed_or_left_alone():
    tokens = np.linspace(1e5, 5e6, 20).astype(np.int64)
    for at in range(2, 18):
        values = np.where(np.arange(20) < at, 0.0, -1.0)
        curve = Curve(np.arange(1, 21), tokens, values, noise_of_stderrs(np.zeros(20)))
        place = find_change(curve, direction=-1, random=np.random.default_rng(at)).place
        if place is not None:
            assert place.midpoint.low <= tokens[at]
            assert place.midpoint.high >= tokens[at - 1]
