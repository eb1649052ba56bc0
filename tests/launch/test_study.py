"""`bump status` reads records and plans alone."""

import json
from pathlib import Path

import pytest

from induction_bump.launch.study import METADATA, status, summary, table
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
    locate(path, changes=False)
    [row] = status(path)
    assert (row.run, row.state, row.step) == (path.name, "finished", RunDirectory(path).info.total_steps)
    assert row.seconds_left is None
    assert row.last_event
    assert row.last_event.endswith("M tokens")


def test_an_event_of_the_study_counts_for_its_run_alone(tmp_path: Path) -> None:
    bump, silent = make_run(tmp_path, name="a"), make_run(tmp_path, name="b", bump_at=None)
    locate(tmp_path / "study", changes=False)
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


def test_a_cell_is_shown_with_what_makes_it_another_than_the_rest(tmp_path: Path) -> None:
    path = make_run(tmp_path)
    cells = [
        {"run_id": name[-10:], "run": name, "total_steps": 50, "overrides": [f"seed.init={seed}", "+sweeps=seeds"]}
        for seed, name in enumerate([path.name, "later-0123456789"])
    ]
    (tmp_path / "study" / METADATA).mkdir()
    (tmp_path / "study" / METADATA / "0.json").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    rows = status(tmp_path / "study")
    assert [(row.state, row.overrides) for row in rows] == [("finished", "seed.init=0"), ("waiting", "seed.init=1")]
    assert [line.split()[-1] for line in table(rows).splitlines()] == ["overrides", "seed.init=0", "seed.init=1"]
    assert summary(rows) == "1 finished, 1 waiting"


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


def test_damaged_events_are_no_events(tmp_path: Path) -> None:
    path = make_run(tmp_path)
    locate(path, changes=False)
    (path / "phase_changes.parquet").write_bytes(b"PAR1 and nothing more")
    [row] = status(path)
    assert (row.state, row.last_event) == ("finished", None)


def test_damaged_records_do_not_hide_the_other_runs(tmp_path: Path) -> None:
    broken, fine = make_run(tmp_path, name="a", status="running"), make_run(tmp_path, name="b")
    part = next((broken / "training").glob("*.parquet"))
    part.write_bytes(b"")
    rows = status(tmp_path / "study")
    assert [(row.run, row.state) for row in rows] == [(broken.name, "unreadable"), (fine.name, "finished")]
    assert str(part) in str(rows[0].message)


@pytest.mark.parametrize("content", ["{", "[]", '{"cells": 3}', '{"cells": [{"run": "x"}]}', '{"cells": [1]}'])
def test_an_unreadable_plan_is_named_in_one_line_and_hides_no_run(tmp_path: Path, content: str) -> None:
    path = make_run(tmp_path)
    plan(tmp_path / "study", path.name, "later-0123456789")
    damaged = tmp_path / "study" / METADATA / "1.json"
    damaged.write_text(content, encoding="utf-8")
    rows = status(tmp_path / "study")
    assert [row.state for row in rows] == ["finished", "waiting", "unreadable"]
    assert str(rows[-1].message).startswith(f"{damaged}: not the plan of a sweep (")
    assert len(str(rows[-1].message).splitlines()) == 1
