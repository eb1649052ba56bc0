"""Durations and the one schedule object."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from induction_bump.training.options import LogSpaced, ScheduleOptions
from induction_bump.training.schedule import Duration, Schedule


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("2000step", 2000, "step"),
        ("12Mtok", 12_000_000, "tok"),
        ("1.5ktok", 1500, "tok"),
        ("1Gtok", 10**9, "tok"),
        ("10_000steps", 10_000, "step"),
        ("1.001ktok", 1001, "tok"),
        ("2.01Mtok", 2_010_000, "tok"),
    ],
)
def test_a_duration_is_a_number_and_its_unit(text: str, value: int, unit: str) -> None:
    assert Duration.parse(text) == Duration(value, unit)


@pytest.mark.parametrize("text", ["2000", "12 M", "", "-5step", "0.5step", "1e6tok", "5epoch"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a (duration|whole number)"):
        Duration.parse(text)


@given(st.integers(0, 10**13), st.sampled_from(["step", "tok"]))
def test_its_text_reads_back(value: int, unit: str) -> None:
    duration = Duration(value, unit)
    assert Duration.parse(str(duration)) == duration


@given(st.integers(0, 10**6))
def test_decimals_of_a_prefix_are_exact(thousandths: int) -> None:
    assert Duration.parse(f"{thousandths // 1000}.{thousandths % 1000:03d}ktok") == Duration(thousandths, "tok")


def test_steps_further_apart_than_the_training_is_long_are_an_error() -> None:
    with pytest.raises(ValueError, match="every=500Mtok is longer than the 100 steps"):
        ScheduleOptions(every=Duration(500_000_000, "tok")).resolve(100, tokens_per_step=1000)


def test_tokens_become_whole_steps_rounded_up() -> None:
    assert Duration(8192, "tok").steps(8192) == 1
    assert Duration(8193, "tok").steps(8192) == 2
    assert Duration(7, "step").steps(8192) == 7


@given(st.integers(1, 10**6), st.integers(2, 300))
def test_log_spaced_moments_have_nearly_equal_ratios(last: int, count: int) -> None:
    steps = Schedule.log_spaced(1, last, count).steps
    assert steps[0] == 0
    assert steps[-1] == last
    assert len(steps) <= count + 1
    large = [s for s in steps if s > 20 * count]
    ratios = [b / a for a, b in itertools.pairwise(large)]
    assert all(abs(r / ratios[0] - 1) < 0.1 for r in ratios)


@given(st.sets(st.integers(0, 500)), st.sets(st.integers(0, 500)))
def test_a_union_holds_what_either_holds(a: set[int], b: set[int]) -> None:
    union = Schedule(a, 500) | Schedule(b, 500)
    assert set(union) == a | b | {0, 500}
    assert all(step in union for step in a)
    assert 501 not in union


def test_next_after_walks_through_it() -> None:
    schedule = Schedule([3, 7], 10)
    seen, step = [], 0
    while (following := schedule.next_after(step)) is not None:
        seen.append(following)
        step = following
    assert seen == [3, 7, 10]


@pytest.mark.parametrize("steps", [[11], [-1]])
def test_a_moment_outside_the_training_is_an_error(steps: list[int]) -> None:
    with pytest.raises(ValueError, match=r"outside 0 … 10 steps"):
        Schedule(steps, 10)


def test_options_unite_log_linear_and_listed_moments_in_steps_and_tokens() -> None:
    options = ScheduleOptions(
        log=LogSpaced(start=Duration(1, "step"), count=4),
        every=Duration(40_000, "tok"),
        at=(Duration(33, "step"),),
    )
    assert options.resolve(100, tokens_per_step=1000).steps == (0, 1, 5, 22, 33, 40, 80, 100)
