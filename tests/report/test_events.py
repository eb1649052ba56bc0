"""Events in words."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from induction_bump.records.damage import RecordsWarning
from induction_bump.records.directory import RunDirectory
from induction_bump.report import events as located
from induction_bump.report.contents import read
from tests.records.make import make_run
from tests.report.located import bump_between, event, silence, store


def events_of(run: Path) -> list[located.Event] | None:
    directory = RunDirectory(run)
    return located.read(run, [directory]).get(directory.info.run_id)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [(0, "0"), (950, "950"), (8192, "8.19k"), (999_990, "1M"), (5_242_880, "5.24M"), (1.05e9, "1.05B")],
)
def test_tokens_are_written_in_three_figures(tokens: float, text: str):
    assert located.tokens_text(tokens) == text


@pytest.mark.parametrize(
    ("verdict", "low", "high", "state", "when"),
    [
        ("found", 400_000, 520_000, "found", "400k–520k"),
        ("left_censored", 0, 0, "at_start", "before training"),
        ("right_censored", 1_900_000, None, "open", "open, not by 1.9M"),
        ("not_found", None, None, "not_found", "not found"),
        ("not_applicable", None, None, "not_applicable", "not applicable"),
    ],
)
def test_an_event_says_when_or_why_not(
    tmp_path: Path, verdict: str, low: int | None, high: int | None, state: str, when: str
):
    run = make_run(tmp_path, snapshots=3)
    store(run, [event(run, "icl", verdict, low, high)])
    events = events_of(run)
    assert events is not None
    assert (events[0].state, events[0].when) == (state, when)


def test_a_located_bump_names_its_interval_and_its_heads(tmp_path: Path):
    run = make_run(tmp_path, bump_at=0.5e6)
    store(run, [*bump_between(run, 450_000, 550_000)])
    headline = located.headline(read(RunDirectory(run)), events_of(run))
    assert headline.text == "Induction bump located between 450k and 550k tokens; head L1H3"
    assert headline.tone == "found"


def test_the_bump_is_when_in_context_learning_sets_in(tmp_path: Path):
    run = make_run(tmp_path, snapshots=3)
    rows = [
        event(run, "previous_token", "found", 100_000, 200_000),
        event(run, "prefix_matching", "found", 300_000, 400_000),
        event(run, "copy_advantage", "found", 400_000, 500_000),
        event(run, "icl", "found", 350_000, 450_000),
    ]
    store(run, rows)
    assert located.bump(events_of(run)) == (350_000, 450_000)


@pytest.mark.parametrize("missing", ["prefix_matching", "icl"])
def test_heads_without_in_context_learning_or_the_reverse_is_no_bump(tmp_path: Path, missing: str):
    run = make_run(tmp_path, snapshots=3)
    store(run, [row for row in bump_between(run, 1, 2) if row["event"] != missing] + [event(run, missing, "not_found")])
    assert located.bump(events_of(run)) is None


@pytest.mark.parametrize(
    ("sublayers", "status", "text"),
    [
        ("ss", "finished", "No induction bump found"),
        ("", "finished", "No induction bump found: the model has no attention layer"),
        ("ss", "running", "No induction bump so far"),
        ("ss", "failed", "The run failed at step"),
    ],
)
def test_without_a_bump_the_headline_says_so(tmp_path: Path, sublayers: str, status: str, text: str):
    run = make_run(tmp_path, sublayers=sublayers, snapshots=3, bump_at=None, status=status)
    store(run, silence(run))
    assert located.headline(read(RunDirectory(run)), events_of(run)).text.startswith(text)


def test_events_that_nobody_computed_are_not_taken_for_silence(tmp_path: Path):
    run = make_run(tmp_path, snapshots=3)
    assert events_of(run) is None
    assert "have not been computed" in located.headline(read(RunDirectory(run)), None).text
    assert "have not been computed" in located.study_headline([None, None]).text


def test_a_run_located_with_its_study_is_found_there(tmp_path: Path):
    first, second = (make_run(tmp_path, snapshots=3, name=name) for name in ("first", "second"))
    store(first.parent, [*bump_between(first, 1, 2), *silence(second)])
    assert located.bump(events_of(first)) == (1, 2)
    assert located.bump(events_of(second)) is None


def test_a_study_that_was_not_located_shows_what_its_runs_know(tmp_path: Path):
    first, second = (make_run(tmp_path, snapshots=3, name=name) for name in ("first", "second"))
    store(second, bump_between(second, 1, 2))
    runs = [RunDirectory(first), RunDirectory(second)]
    assert list(located.read(first.parent, runs)) == [runs[1].info.run_id]


def test_a_study_counts_its_runs_with_a_bump(tmp_path: Path):
    first, second = (make_run(tmp_path, snapshots=3, name=name) for name in ("first", "second"))
    store(first, bump_between(first, 1, 2))
    store(second, silence(second))
    assert located.study_headline([events_of(first), events_of(second)]).text == "Induction bump located in 1 of 2 runs"
    assert located.study_headline([events_of(second)]).text == "No induction bump found in 1 run"
    assert located.study_headline([events_of(first), None]).text == (
        "Induction bump located in 1 of 1 run; 1 not located yet"
    )


def test_a_file_of_another_layout_is_told_and_left_out(tmp_path: Path):
    run = make_run(tmp_path, snapshots=3)
    pq.write_table(pa.table({"event": ["icl"]}), run / "phase_changes.parquet")
    with pytest.warns(RecordsWarning, match="column run_id is missing; `bump locate` writes it anew"):
        assert events_of(run) is None
