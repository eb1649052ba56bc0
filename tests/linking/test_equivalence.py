"""Sameness within a margin, and the numbers of seeds that tests need, against simulation."""

import numpy as np
import pytest
from scipy import stats

from induction_bump.linking.equivalence import equivalence, holm, seeds_for_difference, seeds_for_equivalence
from induction_bump.linking.permutation import sign_flip


def test_the_interval_is_welchs_and_lies_within_the_margin_exactly_where_p_is_small():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 0.1, 6), rng.normal(0.05, 0.2, 9)
    found = equivalence({"x": x, "y": y}, 0.2)
    welch = stats.ttest_ind(y, x, equal_var=False).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((welch.low, welch.high))
    at_the_limit = max(-welch.low, welch.high)
    assert equivalence({"x": x, "y": y}, at_the_limit).p == pytest.approx(0.05, abs=1e-6)


def test_the_two_most_different_groups_decide():
    groups = {"a": [0.0, 0.01, 0.02], "b": [0.02, 0.03, 0.04], "c": [0.3, 0.31, 0.32]}
    found = equivalence(groups, 0.1)
    assert set(found.groups) == {"a", "c"}
    assert found.p > 0.99
    assert found.differ
    assert equivalence({name: groups[name] for name in "ab"}, 0.1).p < 0.01


def test_only_pairs_that_are_asked_for_count():
    groups = {"a": [0.0, 0.01, 0.02], "b": [0.02, 0.03, 0.04], "c": [0.3, 0.31, 0.32]}
    assert equivalence(groups, 0.1, [("a", "b")]).same


def test_the_test_of_sameness_is_that_of_statsmodels():
    from statsmodels.stats.weightstats import ttost_ind

    rng = np.random.default_rng(3)
    x, y = rng.normal(0, 0.1, 5), rng.normal(0.05, 0.3, 7)
    theirs = ttost_ind(y, x, -0.2, 0.2, usevar="unequal")[0]
    assert equivalence({"x": x, "y": y}, 0.2).p == pytest.approx(theirs)


@pytest.mark.parametrize(("gap", "spread"), [(0.0, 0.2), (0.1, 0.02)], ids=["equal and noisy", "at the margin"])
def test_many_groups_that_are_alike_are_seldom_said_to_differ(gap: float, spread: float):
    """At most 5 in 100 studies of eight groups, of which half lie `gap` apart from the other half."""
    rng = np.random.default_rng(4)
    wrong = [
        equivalence({str(i): rng.normal(gap * (i % 2), spread, 6) for i in range(8)}, 0.1).differ for _ in range(150)
    ]
    assert np.mean(wrong) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 150)


def test_the_correction_is_that_of_statsmodels():
    from statsmodels.stats.multitest import multipletests

    p = [0.03, 0.001, 0.2, 0.03, 0.9]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([]) == []


def test_the_pair_that_differs_decides_before_one_that_is_noisier():
    rng = np.random.default_rng(5)
    groups = {"a": rng.normal(0, 0.01, 6), "b": rng.normal(0.2, 0.01, 6), "noisy": rng.normal(0.1, 2.0, 6)}
    found = equivalence(groups, 0.1)
    assert found.groups == ("a", "b")
    assert found.differ


def test_noise_is_not_taken_for_sameness():
    found = equivalence({"a": [-1.0, 1.0, 0.3], "b": [0.9, -0.8, 0.1]}, 0.1)
    assert found.p > 0.05
    assert not found.differ


def test_groups_without_spread_are_the_same_or_not():
    assert equivalence({"a": [1, 1], "b": [1.05, 1.05]}, 0.1).p == 0
    assert equivalence({"a": [1, 1], "b": [1.2, 1.2]}, 0.1).p == 1


def test_seeds_for_a_difference_give_the_power_that_was_asked_for():
    n = seeds_for_difference(1.0, 1.0, paired=True)
    assert n == 10  # the textbook's paired t test with an effect of one standard deviation
    assert seeds_for_difference(1.0, 1.0, paired=False) == 17
    d = np.random.default_rng(1).normal(1.0, 1.0, (300, n))
    assert np.mean([sign_flip(row).p <= 0.05 for row in d]) == pytest.approx(0.8, abs=0.08)


def test_no_number_is_below_what_an_exact_test_needs():
    assert seeds_for_difference(100.0, 1.0, paired=True) == 6
    assert seeds_for_difference(100.0, 1.0, paired=False) == 4


def test_there_is_no_number_for_no_effect():
    assert seeds_for_difference(0.0, 1.0, paired=False) is None
    assert seeds_for_difference(1e-3, 1.0, paired=False) is None


def test_seeds_for_sameness_give_the_power_that_was_asked_for():
    n = seeds_for_equivalence(0.1, 0.1)
    assert n
    rng = np.random.default_rng(2)
    passed = [equivalence({"a": rng.normal(0, 0.1, n), "b": rng.normal(0, 0.1, n)}, 0.1).p < 0.05 for _ in range(400)]
    assert np.mean(passed) == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize(
    ("groups", "margin", "message"),
    [
        ({"a": [1, 2]}, 0.1, "at least two groups"),
        ({"a": [1, 2], "b": [1]}, 0.1, "b: a spread over seeds"),
        ({"a": [1, 2], "b": [1, 2]}, 0.0, "must be positive"),
    ],
)
def test_degenerate_input_is_refused(groups: dict[str, list[float]], margin: float, message: str):
    with pytest.raises(ValueError, match=message):
        equivalence(groups, margin)
