"""`bump status` reads records and plans alone."""

import json
from pathlib import Path

import pytest

from induction_bump.launch.study import METADATA, status, table
from induction_bump.locate.run import locate
from induction_bump.records.directory import RunDirectory
from induction_bump.records.lock import RunLock
from induction_bump.records.schema import RecordsError
from tests.records.make import make_run


def plan(study: Path, *runs: str) -> None:
    (study / METADATA).mkdir(parents=True)
    cells = [{"run_id": run[-10:], "run": run, "total_steps": 50, "overrides": []} for run in runs]
    (study / METADATA / "0.json").write_text(json.dumps({"cells": cells}), encoding="utf-8")


def test_a_finished_run_is_shown_whole_with_its_last_event(tmp_path: Path) -> None:
    path = make_run(tmp_path)
    locate(path)
    [row] = status(path)
    assert (row.run, row.state, row.step) == (path.name, "finished", RunDirectory(path).info.total_steps)
    assert row.seconds_left is None
    assert row.last_event
    assert row.last_event.endswith("M tokens")


def test_an_event_of_the_study_counts_for_its_run_alone(tmp_path: Path) -> None:
    bump, silent = make_run(tmp_path, name="a"), make_run(tmp_path, name="b", bump_at=None)
    locate(tmp_path / "study")
    rows = {row.run: row for row in status(tmp_path / "study")}
    assert rows[bump.name].last_event
    assert rows[silent.name].last_event is None


def test_a_running_one_has_time_left_and_without_a_writer_it_is_interrupted(tmp_path: Path) -> None:
    path = make_run(tmp_path, status="running")
    run = RunDirectory(path)
    run.update(total_steps=2 * run.info.total_steps)
    assert status(path)[0].state == "interrupted"
    lock = RunLock(path)
    lock.acquire()
    [row] = status(path)
    lock.release()
    assert row.state == "running"
    assert row.tokens_per_second
    left = (row.total_steps - row.step) * run.info.tokens_per_step
    assert row.seconds_left == pytest.approx(left / row.tokens_per_second)


def test_cells_that_have_not_begun_are_waiting(tmp_path: Path) -> None:
    path = make_run(tmp_path)
    plan(tmp_path / "study", path.name, "later-0123456789")
    assert [(row.run, row.state) for row in status(tmp_path / "study")] == [
        (path.name, "finished"),
        ("later-0123456789", "waiting"),
    ]


def test_a_study_of_which_nothing_has_begun_is_shown_too(tmp_path: Path) -> None:
    plan(tmp_path, "one-0123456789", "two-0123456789")
    assert [row.state for row in status(tmp_path)] == ["waiting", "waiting"]


def test_the_table_is_aligned_and_tells_why_a_run_failed(tmp_path: Path) -> None:
    make_run(tmp_path, name="a", status="failed", message="disk full")
    make_run(tmp_path, name="b-with-a-longer-name")
    lines = table(status(tmp_path / "study")).splitlines()
    assert len(lines) == 4
    assert len({line.index("/") for line in lines[1:3]}) <= 2
    assert lines[1].index("failed") == lines[2].index("finished") == lines[0].index("state")
    assert lines[3].endswith(": disk full")


def test_an_unreadable_run_does_not_hide_the_others(tmp_path: Path) -> None:
    broken, fine = make_run(tmp_path, name="a"), make_run(tmp_path, name="b")
    (broken / "run.json").write_text("{", encoding="utf-8")
    assert [(row.run, row.state) for row in status(tmp_path / "study")] == [
        (broken.name, "unreadable"),
        (fine.name, "finished"),
    ]


def test_neither_run_nor_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="neither a run nor a study"):
        status(tmp_path)
