"""`icl` answers to an abrupt fall of the score and not to drifts, whatever the spacing of the snapshots."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from induction_bump.locate.plateau import Departure, Scores, change, first_departure, plateau_before

END = 12_000_000
SPACINGS = {
    "log, 32": np.geomspace(8192, END, 32),
    "log, 200": np.geomspace(8192, END, 200),
    "log, 8": np.geomspace(8192, END, 8),  # a factor of 2.8 from one to the next
    "linear, 24": np.linspace(END / 24, END, 24),
    "linear, 200": np.linspace(END / 200, END, 200),
}


def grid(name: str) -> np.ndarray:
    return np.concatenate([[0], np.unique(SPACINGS[name].astype(np.int64))])


def simulate(tokens: np.ndarray, curve, *, examples: int = 400, noise: float = 0.1, seed: int = 0) -> Scores:
    """Scores that follow curve(tokens), with an example's own level, probe noise, and jitter of training."""
    rng = np.random.default_rng(seed)
    level = rng.normal(0, 0.5, examples)
    jitter = 0.01 * rng.standard_normal(len(tokens))
    values = np.asarray(curve(np.maximum(tokens, 1.0)))[:, None] + jitter[:, None] + level
    values = values + noise * rng.standard_normal(values.shape)
    return Scores(np.asarray(tokens), values, np.arange(examples))


def search(scores: Scores, *, start: float = 0.0, sustain: int = 2, ended: bool = True) -> Departure:
    return first_departure(scores, drop=0.1, standard_errors=4.0, start=start, sustain=sustain, ended=ended)


def ramp(onset: float, end: float, drop: float):
    return lambda t: -drop * np.clip(np.log(t / onset) / np.log(end / onset), 0, 1)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(
    "curve",
    [
        lambda t: 0.0 * t,
        lambda t: -0.1 * np.log(t) / np.log(END),
        lambda t: -0.1 * t / END,
        lambda t: -0.1 * np.sqrt(t / END),
        lambda t: -0.1 * np.clip(np.log(t / 1e6) / np.log(END / 1e6), 0, 1),
        lambda t: 0.3 * t / END,
    ],
    ids=["flat", "log drift", "linear drift", "square-root drift", "late log drift", "rise"],
)
def test_a_drift_of_a_tenth_in_all_is_no_change(spacing: str, curve):
    for seed in range(3):
        assert search(simulate(grid(spacing), curve, seed=seed)).crossing.verdict == "not_found"


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("drop", [0.3, 1.2])
def test_an_abrupt_fall_is_found_where_it_happens(spacing: str, drop: float):
    onset, end = 1.1e6, 1.4e6
    scores = simulate(grid(spacing), ramp(onset, end, drop))
    crossing = search(scores).crossing
    assert crossing.verdict == "found"
    crosses_at = onset * (end / onset) ** (0.1 / drop)
    step = np.diff(scores.tokens)[crossing.low]
    assert scores.tokens[crossing.low] <= crosses_at + step
    assert scores.tokens[crossing.high] >= crosses_at - step


@pytest.mark.parametrize("spacing", ["log, 32", "log, 200", "linear, 24", "linear, 200"])
def test_a_fall_on_top_of_a_drift_is_found_at_the_fall(spacing: str):
    fall = ramp(4e6, 6e6, 0.6)
    scores = simulate(grid(spacing), lambda t: -0.1 * np.log(t) / np.log(END) + fall(t))
    crossing = search(scores).crossing
    assert crossing.verdict == "found"
    assert 3.5e6 < scores.tokens[crossing.high] < 6e6


@pytest.mark.parametrize("spacing", ["log, 32", "log, 200", "linear, 200"])
def test_a_fall_as_slow_as_abrupt_may_be_is_found(spacing: str):
    assert search(simulate(grid(spacing), ramp(2e6, 6e6, 0.3))).crossing.verdict == "found"


def test_the_untrained_model_is_no_plateau():
    """A tenth and more is lost while the model is untrained; afterwards nothing happens."""
    fall = ramp(1e5, 4e5, 0.15)
    scores = simulate(grid("log, 200"), fall)
    assert search(scores, start=0).crossing.found
    assert search(scores, start=8e5).crossing.verdict == "not_found"


def test_a_fall_soon_after_the_start_of_plateaus_is_dated_to_itself_though_it_is_recognised_later():
    fall = ramp(9e5, 1.1e6, 0.6)
    scores = simulate(grid("linear, 200"), fall)
    departure = search(scores, start=8e5)
    assert departure.crossing.verdict == "found"
    assert 8.5e5 < scores.tokens[departure.crossing.high] < 1.1e6
    assert departure.crossing.seen_from > departure.crossing.high
    assert all(8e5 <= scores.tokens[j] < 9.5e5 for j in departure.plateau)


def test_a_fall_that_comes_back_is_not_sustained():
    tokens = grid("linear, 200")
    spike = np.where((tokens > 6e6) & (tokens < 6.1e6), -1.0, 0.0)
    scores = simulate(tokens, lambda t: spike)
    assert (scores.values.mean(1) < -0.5).sum() in (1, 2)
    assert search(scores).crossing.verdict == "not_found"


def test_a_fall_within_its_standard_error_is_no_change():
    """Each example goes its own way by 4 nats: 0.3 nat on average is less than 4 standard errors of 400 examples."""
    tokens = grid("linear, 24")
    fall = ramp(4e6, 5e6, 0.3)
    scores = simulate(tokens, fall, noise=0.01)
    own = np.random.default_rng(1).normal(0, 4, 400)
    own -= own.mean()
    after = (tokens > 4.6e6)[:, None]
    noisy = Scores(tokens, scores.values + after * own, scores.documents)
    assert search(scores).crossing.found
    assert search(noisy).crossing.verdict == "not_found"


def test_the_comparison_is_paired():
    """Examples that differ by 50 nats from each other do not hide a fall that all of them share."""
    scores = simulate(grid("linear, 24"), ramp(4e6, 5e6, 0.3))
    hard = Scores(scores.tokens, scores.values + np.random.default_rng(1).normal(0, 50, 400), scores.documents)
    assert search(hard) == search(scores)


def test_standard_errors_cluster_by_document():
    """A closed form: with all of a document's examples equal, only the number of documents counts."""
    tokens = np.array([0, 1, 2, 4])
    of_document = np.random.default_rng(0).normal(-1, 1, 10)
    values = np.zeros((4, 400))
    values[3] = np.repeat(of_document, 40)
    documents = np.repeat(np.arange(10), 40)
    moved, stderr = change(Scores(tokens, values, documents), (1, 2), 3)
    assert moved == pytest.approx(of_document.mean())
    assert stderr == pytest.approx(of_document.std(ddof=1) / np.sqrt(10))
    _, unclustered = change(Scores(tokens, values, np.arange(400)), (1, 2), 3)
    assert unclustered < stderr / 5


def test_one_document_alone_is_an_error():
    scores = simulate(grid("log, 8"), ramp(4e6, 5e6, 0.3))
    with pytest.raises(ValueError, match="at least two"):
        search(Scores(scores.tokens, scores.values, np.zeros(400, int)))


def test_the_plateau_is_an_octave_that_ends_an_octave_before():
    tokens = np.array([0, 1, 2, 4, 8, 16, 32])
    assert plateau_before(tokens, 6, 0) == (4, 5)
    assert plateau_before(tokens, 6, 10) == (5,)
    assert plateau_before(tokens, 1, 0) == ()


def test_without_a_snapshot_in_that_octave_the_last_one_before_stands_in_but_never_step_0():
    tokens = np.array([0, 1, 10, 100])
    assert plateau_before(tokens, 3, 0) == (2,)
    assert plateau_before(tokens, 2, 0) == (1,)
    assert plateau_before(tokens, 1, 0) == ()
    assert plateau_before(tokens, 3, 50) == ()


def test_a_run_that_goes_on_is_right_censored_until_it_falls():
    flat = simulate(grid("log, 32"), lambda t: 0 * t)
    assert search(flat, ended=False).crossing.verdict == "right_censored"
    assert search(flat, ended=False).plateau is None


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(SPACINGS)))
def test_the_order_of_examples_and_their_own_levels_do_not_matter(seed: int, spacing: str):
    rng = np.random.default_rng(seed)
    scores = simulate(grid(spacing), ramp(4e6, 5e6, 0.3), examples=60, seed=seed % 1000)
    order = rng.permutation(60)
    shuffled = Scores(scores.tokens, scores.values[:, order] + rng.normal(0, 1, 60), scores.documents[order])
    assert search(shuffled).crossing == search(scores).crossing
