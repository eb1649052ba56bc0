"""Measures of token losses, against closed forms and loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from induction_bump.measures.losses import (
    copy_losses,
    induction_rule,
    masked_loss,
    per_example_icl_score,
    per_example_icl_window_score,
)
from induction_bump.measures.options import IclOptions
from induction_bump.measures.statistics import clustered_mean

ICL = IclOptions(early=3, late=10, window=2)


def test_icl_score_is_late_minus_early_by_one_based_positions() -> None:
    losses = np.arange(1, 13, dtype=float)[None].repeat(3, 0)  # loss[k] = k
    assert per_example_icl_score(losses, ICL).tolist() == [7, 7, 7]
    # late window {9, 10}, early window {3, 4}
    assert per_example_icl_window_score(losses, ICL).tolist() == [6, 6, 6]


def test_more_in_context_learning_is_more_negative() -> None:
    falling = np.linspace(5, 1, 12)[None]
    assert per_example_icl_score(falling, ICL)[0] < 0
    assert per_example_icl_window_score(falling, ICL)[0] < 0


@pytest.mark.parametrize("score", [per_example_icl_score, per_example_icl_window_score])
def test_a_position_past_the_context_is_an_error(score) -> None:
    with pytest.raises(ValueError, match="position 10 lies past the context of 9"):
        score(np.zeros((2, 9)), ICL)


def test_overlapping_windows_are_an_error() -> None:
    with pytest.raises(ValueError, match="overlap"):
        IclOptions(early=3, late=10, window=5)


windows = st.lists(st.lists(st.integers(0, 4), min_size=8, max_size=8), min_size=1, max_size=4).map(np.array)


@given(windows)
def test_the_induction_rule_is_that_of_a_loop(tokens: np.ndarray) -> None:
    rule = induction_rule(tokens)
    for n, window in enumerate(tokens.tolist()):
        for k in range(1, len(window)):
            earlier = [j for j in range(k - 1) if window[j] == window[k - 1]]
            right = bool(earlier) and window[earlier[-1] + 1] == window[k]
            assert rule.right[n, k - 1] == right
            assert rule.wrong[n, k - 1] == (bool(earlier) and not right)


def test_masked_loss_weighs_tokens_equally_and_is_absent_without_any() -> None:
    losses = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    mask = np.array([[True, False, False], [True, True, True]])
    estimate = masked_loss(losses, mask, np.arange(2))
    assert estimate is not None
    assert float(estimate) == pytest.approx((1 + 4 + 5 + 6) / 4)
    assert masked_loss(losses, np.zeros_like(mask), np.arange(2)) is None


def test_copies_leave_out_their_first_token() -> None:
    # blocks of 3 and 2 tokens: positions 1–3 | 4–6 and 1–2 | 3–4
    losses = np.array([[9.0, 1, 2, 9, 3, 5], [9, 7, 9, 8, 0, 0]])
    blocks = np.array([3, 2])
    assert copy_losses(losses, blocks, 1).tolist() == [1.5, 7]
    assert copy_losses(losses, blocks, 2).tolist() == [4, 8]
    with pytest.raises(ValueError, match="copy 3 does not fit"):
        copy_losses(losses, blocks, 3)


class TestStandardErrors:
    """Examples of one document are one piece of evidence."""

    def test_without_clusters_it_is_the_textbooks(self) -> None:
        x = np.random.default_rng(0).normal(size=50)
        estimate = clustered_mean(x)
        assert float(estimate) == pytest.approx(x.mean())
        assert float(estimate.stderr) == pytest.approx(x.std(ddof=1) / np.sqrt(50))

    def test_copying_every_example_into_its_document_changes_nothing(self) -> None:
        x = np.random.default_rng(0).normal(size=(50, 3))
        once, twice = clustered_mean(x), clustered_mean(np.repeat(x, 2, 0), np.repeat(np.arange(50), 2))
        np.testing.assert_allclose(twice.value, once.value)
        np.testing.assert_allclose(twice.stderr, once.stderr)

    def test_the_order_of_examples_does_not_matter(self) -> None:
        rng = np.random.default_rng(0)
        x, documents, order = rng.normal(size=40), rng.integers(0, 9, 40), rng.permutation(40)
        a, b = clustered_mean(x, documents), clustered_mean(x[order], documents[order])
        np.testing.assert_allclose([a.value, a.stderr], [b.value, b.stderr])

    def test_it_covers_the_truth_of_clustered_noise(self) -> None:
        """Intervals of ±1.96 standard errors hold the true mean in about 95 % of 400 draws."""
        rng = np.random.default_rng(0)
        documents = np.repeat(np.arange(60), 5)
        inside = 0
        for _ in range(400):
            x = rng.normal(size=60)[documents] + rng.normal(size=300)
            estimate = clustered_mean(x, documents)
            inside += abs(float(estimate)) < 1.96 * float(estimate.stderr)
        assert 0.91 < inside / 400 < 0.98

    def test_one_document_has_no_standard_error(self) -> None:
        with pytest.raises(ValueError, match="at least two independent examples"):
            clustered_mean(np.ones(4), np.zeros(4, int))

    def test_no_values_have_no_mean(self) -> None:
        with pytest.raises(ValueError, match="no values"):
            clustered_mean(np.ones(4), counts=np.zeros(4))
