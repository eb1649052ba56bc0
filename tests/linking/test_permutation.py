"""Exact tests against enumeration written out, and the smallest p that so many runs can give."""

from itertools import combinations, product

import numpy as np
import pytest

from induction_bump.linking.permutation import (
    logrank_scores,
    sign_flip,
    smallest_paired,
    smallest_unpaired,
    two_groups,
)


def test_five_pairs_that_all_agree_give_the_smallest_p_of_five_pairs():
    test = sign_flip([0.5, 0.7, 0.6, 0.9, 0.4])
    assert (test.p, test.smallest, test.exact) == (0.0625, 0.0625, True)
    assert not test.can_reject()
    assert sign_flip(-np.arange(1.0, 9.0)).p == 2 / 256 == smallest_paired(8)


def test_five_against_five_that_do_not_overlap_give_the_smallest_p():
    test = two_groups(np.arange(5.0), np.arange(5.0) + 10)
    assert test.p == pytest.approx(2 / 252)
    assert test.smallest == pytest.approx(smallest_unpaired(5, 5)) == pytest.approx(0.0079, abs=5e-5)
    assert test.can_reject()


@pytest.mark.parametrize("seed", range(5))
def test_flipping_signs_agrees_with_going_through_all_flips(seed: int):
    d = np.random.default_rng(seed).normal(0.4, 1.0, 7)
    reached = [abs(np.mean(d * signs)) >= abs(d.mean()) - 1e-12 for signs in product([1, -1], repeat=7)]
    assert sign_flip(d).p == pytest.approx(np.mean(reached))


@pytest.mark.parametrize("seed", range(5))
def test_exchanging_runs_agrees_with_going_through_all_ways_to_deal_them(seed: int):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(0, 1, 4), rng.normal(0.5, 1, 6)
    together, observed = np.concatenate([x, y]), y.mean() - x.mean()
    low = high = 0
    for chosen in combinations(range(10), 4):
        rest = np.delete(together, chosen)
        difference = rest.mean() - together[list(chosen)].mean()
        low += difference <= observed + 1e-12
        high += difference >= observed - 1e-12
    # groups of unequal size make the null lopsided: twice the smaller tail
    assert two_groups(x, y).p == pytest.approx(2 * min(low, high) / 210)


def test_many_runs_are_rearranged_at_random_and_that_is_told():
    rng = np.random.default_rng(0)
    test = two_groups(rng.normal(0, 1, 30), rng.normal(2, 1, 30))
    assert not test.exact
    assert test.p == pytest.approx(test.smallest) == pytest.approx(1e-4)


def test_under_the_null_p_is_as_small_as_it_says():
    rng = np.random.default_rng(1)
    p = np.array([two_groups(*rng.normal(0, 1, (2, 5))).p for _ in range(300)])
    assert 0.02 < (p <= 0.05).mean() < 0.09


def test_log_rank_scores_by_hand_with_a_tie_and_a_censored_run():
    # at 1 one of 5, at 2 two of 4, at 4 one of 1; 3 is censored after hazards 1/5 + 2/4
    scores = logrank_scores([1, 2, 2, 3, 4], [True, True, True, False, True])
    expected = [0.2 - 1, 0.7 - 1, 0.7 - 1, 0.7, 1.7 - 1]
    np.testing.assert_allclose(scores, expected)
    assert scores.sum() == pytest.approx(0)


def test_log_rank_scores_are_those_of_the_log_rank_test():
    """Their sum over a group is observed minus expected; lifelines' statistic, made of the same, has the same sign."""
    from scipy.stats import CensoredData, logrank

    rng = np.random.default_rng(2)
    t, seen = rng.exponential(1, 40), rng.uniform(size=40) < 0.7
    group = np.arange(40) < 20
    t[group] *= 0.5
    minus = -logrank_scores(t, seen)[group].sum()
    x, y = (CensoredData.right_censored(t[g], ~seen[g]) for g in (group, ~group))
    z = logrank(x, y).statistic
    variance = sum(
        d * (n1 / n) * (1 - n1 / n) * (n - d) / (n - 1)
        for d, n, n1 in ((1, (t >= m).sum(), (t[group] >= m).sum()) for m in t[seen])
        if n > 1
    )
    assert minus / np.sqrt(variance) == pytest.approx(z)


def test_what_never_happens_is_later_than_all_that_does_whatever_the_end():
    for end in (10.0, 1e6):
        scores = logrank_scores([1, 2, 3, end, end, end], [True] * 3 + [False] * 3)
        assert two_groups(scores[:3], scores[3:]).p == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sign_flip([1.0]), "at least two pairs"),
        (lambda: sign_flip([1.0, np.nan]), "difference 1 is not finite"),
        (lambda: two_groups([1.0], [1.0, 2.0]), "at least two runs in both"),
        (lambda: logrank_scores([1.0, 2.0], [True]), "2 times but 1"),
    ],
)
def test_degenerate_input_is_refused(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()
