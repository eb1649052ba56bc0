"""A crossing is the first that is sustained, lies between two snapshots, and says what it cannot know."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from induction_bump.locate.crossing import Crossing, first_at_least, first_sustained


def search(values: list[float], sustain: int = 2, ended: bool = True) -> tuple[str, int | None, int | None]:
    crossing = first_at_least(np.array(values, float), 0.5, sustain, ended=ended)
    return crossing.verdict, crossing.low, crossing.high


def test_a_step_lies_between_the_last_snapshot_below_and_the_first_above():
    assert search([0, 0, 0, 1, 1, 1, 1]) == ("found", 2, 3)


def test_the_threshold_itself_counts_as_crossed():
    assert search([0, 0.5, 0.5, 0.5]) == ("found", 0, 1)


def test_a_spike_that_does_not_last_is_no_crossing():
    assert search([0, 1, 1, 0, 0, 1, 1, 1]) == ("found", 4, 5)
    assert search([0, 1, 1, 0, 0, 0]) == ("not_found", None, None)


def test_sustain_is_the_number_of_further_snapshots():
    values = [0, 1, 0, 1, 1, 0, 1, 1, 1, 0]
    assert search(values, sustain=0) == ("found", 0, 1)
    assert search(values, sustain=1) == ("found", 2, 3)
    assert search(values, sustain=2) == ("found", 5, 6)


def test_a_fall_after_a_sustained_crossing_does_not_undo_it():
    assert search([0, 1, 1, 1, 0, 0, 0]) == ("found", 0, 1)


def test_crossed_at_the_first_snapshot_is_left_censored():
    assert search([1, 1, 1, 0, 0]) == ("left_censored", 0, 0)


def test_a_first_value_above_that_is_not_sustained_is_not_left_censored():
    assert search([1, 0, 0, 1, 1, 1]) == ("found", 2, 3)


@pytest.mark.parametrize("above", [1, 2])
def test_too_few_snapshots_left_to_sustain_it_is_right_censored(above: int):
    assert search([0] * 5 + [1] * above) == ("right_censored", 4, None)


def test_the_last_snapshot_that_can_still_be_sustained_is_found():
    assert search([0] * 5 + [1] * 3) == ("found", 4, 5)


def test_above_at_all_of_too_few_snapshots_is_right_censored_without_a_lower_end():
    assert search([1, 1]) == ("right_censored", None, None)


def test_a_run_that_ended_without_crossing_has_none_and_one_that_goes_on_may_still():
    assert search([0, 0, 0]) == ("not_found", None, None)
    assert search([0, 0, 0], ended=False) == ("right_censored", 2, None)


def test_whether_a_run_goes_on_does_not_change_what_was_sustained():
    assert search([0, 1, 1, 1], ended=False) == search([0, 1, 1, 1], ended=True)


def test_no_snapshot_is_an_error():
    with pytest.raises(ValueError, match="at least one snapshot"):
        first_sustained(0, lambda i, j: True, 2, ended=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_an_error_that_names_its_snapshot(value: float):
    with pytest.raises(ValueError, match="snapshot 1 is not finite"):
        search([0, value, 1])


def test_a_moving_threshold_reaches_back_to_the_last_snapshot_that_it_leaves_out():
    """Snapshot 4 is the first to propose; what it is compared with leaves out 0 and 1 only."""
    crossing = first_sustained(8, lambda i, j: i >= 4 and j >= 2, 2, ended=True)
    assert crossing == Crossing("found", 1, 2, seen_from=4)


curves = arrays(float, st.integers(1, 30), elements=st.floats(0, 1))


@given(curves, st.integers(0, 4), st.booleans())
def test_found_means_below_at_low_and_above_from_high_on(values, sustain, ended):
    crossing = first_at_least(values, 0.5, sustain, ended=ended)
    above = values >= 0.5
    if crossing.verdict == "found":
        assert crossing.high == crossing.low + 1
        assert not above[crossing.low]
        assert above[crossing.high : crossing.high + sustain + 1].all()
        assert crossing.high + sustain < len(values)
    if crossing.verdict == "left_censored":
        assert above[: sustain + 1].all()


@given(curves, st.integers(0, 4))
def test_found_exactly_where_a_long_enough_stretch_lies_above(values, sustain):
    above = "".join("1" if v >= 0.5 else "0" for v in values)
    place = above.find("1" * (sustain + 1))
    crossing = first_at_least(values, 0.5, sustain, ended=True)
    if place >= 0:
        assert (crossing.found, crossing.high) == (True, place)
    else:
        assert crossing.verdict == ("right_censored" if above.endswith("1") else "not_found")


@given(curves, st.integers(0, 4), arrays(float, st.integers(1, 10), elements=st.floats(0, 1)))
def test_later_snapshots_never_move_a_crossing_that_was_found(values, sustain, more):
    before = first_at_least(values, 0.5, sustain, ended=False)
    if before.found:
        assert first_at_least(np.concatenate([values, more]), 0.5, sustain, ended=False) == before


@given(st.integers(2, 60), st.data())
def test_a_step_seen_through_more_snapshots_gives_an_interval_inside_the_old_one(n, data):
    """For a curve that crosses once, a finer grid narrows the interval and never leaves it."""
    at = data.draw(st.floats(0.1, 0.9))
    fine = np.linspace(0, 1, 4 * n)
    kept = np.flatnonzero(data.draw(arrays(bool, fine.size)))
    coarse = fine[kept]
    if coarse.size == 0:
        return
    few, many = (first_at_least((grid >= at).astype(float), 0.5, 1, ended=True) for grid in (coarse, fine))
    if few.verdict == "found":
        assert coarse[few.low] <= fine[many.low]
        assert fine[many.high] <= coarse[few.high]


@given(curves, st.integers(0, 3))
def test_a_higher_threshold_is_never_crossed_earlier(values, sustain):
    low, high = (first_at_least(values, t, sustain, ended=True) for t in (0.3, 0.7))
    if high.found:
        assert low.found
        assert low.high <= high.high
