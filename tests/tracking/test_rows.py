"""Rows for W&B: one a step, in order, merged, and only when settled."""

from itertools import pairwise
from pathlib import Path

import pytest

from induction_bump.records.directory import RunDirectory
from induction_bump.tracking.rows import chosen_positions, rows_after, steps_with_grids
from tests.records.make import make_run
from tests.tracking.growing import GrowingRun, expected_rows


@pytest.fixture
def growing(tmp_path: Path) -> GrowingRun:
    return GrowingRun(tmp_path)


def test_every_number_of_the_records_is_in_the_row_of_its_step(tmp_path: Path) -> None:
    path = make_run(tmp_path)
    rows = {row.step: {"tokens": row.tokens, **row.values} for row in rows_after(RunDirectory(path), None)}
    assert rows == expected_rows(path)


def test_a_training_step_and_its_snapshot_are_one_row(tmp_path: Path) -> None:
    run = RunDirectory(make_run(tmp_path))
    rows = list(rows_after(run, None))
    assert all(a.step < b.step for a, b in pairwise(rows))
    at = next(row for row in rows if row.step == run.snapshots()[3].step)
    assert "train/loss" in at.values
    assert "eval/loss" in at.values


def test_step_0_has_measures_and_no_training(tmp_path: Path) -> None:
    first = next(rows_after(RunDirectory(make_run(tmp_path)), None))
    assert first.step == 0
    assert "eval/loss" in first.values
    assert not any(key.startswith("train/") for key in first.values)


def test_a_model_without_heads_has_no_keys_of_heads(tmp_path: Path) -> None:
    rows = rows_after(RunDirectory(make_run(tmp_path, sublayers="")), None)
    assert not any(key.startswith("heads/") for row in rows for key in row.values)


def test_before_training_has_committed_anything_there_is_step_0(growing: GrowingRun) -> None:
    assert list(rows_after(growing.run, None)) == []
    growing.measure(0)
    assert [row.step for row in rows_after(growing.run, None)] == [0]


def test_a_step_waits_for_its_snapshot(growing: GrowingRun) -> None:
    """W&B could not take the snapshot's row any more once that of the same training step was logged."""
    growing.measure(0)
    growing.train(1, growing.snapshot_steps[3])
    assert [row.step for row in rows_after(growing.run, None)][-1] == growing.snapshot_steps[3] - 1
    growing.measure(growing.snapshot_steps[3])
    last = list(rows_after(growing.run, None))[-1]
    assert last.step == growing.snapshot_steps[3]
    assert "eval/loss" in last.values


def test_a_step_before_the_latest_one_has_no_snapshot_to_wait_for(growing: GrowingRun) -> None:
    growing.measure(0)
    growing.train(1, 5)
    assert [row.step for row in rows_after(growing.run, None)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("status", ["failed", "preempted"])
def test_the_last_step_of_a_run_that_may_go_on_still_waits(growing: GrowingRun, status: str) -> None:
    growing.measure(0)
    growing.train(1, 5)
    growing.end(status)
    assert max(row.step for row in rows_after(growing.run, None)) == 4


def test_only_what_comes_after_a_step_is_given(growing: GrowingRun) -> None:
    growing.grow(0, 50)
    growing.grow(51, 60)
    assert [row.step for row in rows_after(growing.run, 50)] == list(range(51, 60))
    assert list(rows_after(growing.run, 60)) == []


def test_part_files_that_end_before_the_step_are_not_read(growing: GrowingRun) -> None:
    growing.train(1, 50)
    growing.train(51, 60)
    (growing.path / "training" / "part-00000001.parquet").write_bytes(b"not Parquet")
    assert [row.step for row in rows_after(growing.run, 50)] == list(range(51, 60))


def test_losses_have_curves_at_the_positions_of_the_icl_score_and_at_powers_of_four() -> None:
    assert chosen_positions(128, {"early": 8, "late": 100}) == [1, 4, 8, 16, 64, 100, 128]
    assert chosen_positions(2, {}) == [1, 2]


def test_which_grids_are_drawn_does_not_depend_on_what_is_still_to_come() -> None:
    steps = [0, 1, 2, 3, 5, 8, 9, 10, 11, 12, 40, 41, 42, 43, 44]
    drawn = steps_with_grids(steps, last_step=44)
    assert {0, 1, 44} <= drawn
    assert len(drawn) < len(steps)
    for seen in range(1, len(steps)):
        known = steps[:seen]
        assert steps_with_grids(known, last_step=44) == drawn & set(known)
