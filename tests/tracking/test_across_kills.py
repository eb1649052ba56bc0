"""One W&B run whatever happened: two processes, killed with their launcher, and the same command once more."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from induction_bump.records.checkpoints import Checkpoint, checkpoints
from induction_bump.records.directory import RunDirectory
from induction_bump.records.lock import is_locked
from induction_bump.records.schema import RecordsError
from induction_bump.tracking import rows
from induction_bump.tracking.cursor import read_cursor
from tests.tracking.growing import GrowingRun, expected_rows, numbers
from tests.tracking.test_mirror import logs, mirror_wholly, mirrored
from tests.tracking.wandb_double import WandbDouble
from tests.training.runs import FEW_NGRAMS

PATIENCE = 240.0
SPEED = "train/tokens_per_second"
"""Of steps that were done twice, W&B has the first one's, and the records the last one's."""


def assert_each_step_once(mirrored_rows: list[dict[str, Any]], path: Path) -> None:
    expected = expected_rows(path)
    assert [row["_step"] for row in mirrored_rows] == sorted(expected)
    for row in mirrored_rows:
        found = numbers({key: value for key, value in row.items() if not isinstance(value, dict | list)})
        wanted = expected[row["_step"]]
        assert found.keys() == wanted.keys()
        assert {k: v for k, v in found.items() if k != SPEED} == {k: v for k, v in wanted.items() if k != SPEED}


def test_records_that_went_back_are_not_handed_over_twice(tmp_path: Path) -> None:
    growing = GrowingRun(tmp_path)
    second, third = growing.snapshot_steps[-3:-1]
    growing.grow(0, third)
    growing.train(third + 1, third + 5)
    growing.end("preempted")
    handed_over = mirror_wholly(growing.path)
    assert handed_over == third + 5  # step 0 to the last but one
    growing.run.rewind(second)
    growing.run.update(status="running", finished_at=None)
    growing.train(second + 1, third)
    assert mirror_wholly(growing.path) == 0
    growing.measure(third)
    growing.grow(third + 1, growing.last_step)
    growing.end()
    mirror_wholly(growing.path)
    assert_each_step_once(mirrored(growing.path), growing.path)


def test_rows_that_are_taken_back_while_they_are_read_are_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "_AT_ONCE", 2)
    growing = GrowingRun(tmp_path)
    growing.grow(0, growing.last_step)
    growing.end("preempted")
    reading = rows.rows_after(growing.run, None)
    assert next(reading).step == 0
    growing.run.rewind(growing.snapshot_steps[3])
    with pytest.raises(RecordsError, match="went back to a checkpoint"):
        list(reading)


def command(mode: str) -> list[str]:
    overrides = ["experiment=debug", f"tracking={mode}", "report=off", "devices=two_cpu", "paths.cache=cache"]
    length = ["training.length=800step", "snapshots.measures.at=[1step]", "checkpoints.every_seconds=null"]
    return [sys.executable, "-m", "induction_bump.cli.main", "train", *overrides, *length, FEW_NGRAMS]


def kill_where_w_and_b_is_ahead(mode: str) -> RunDirectory:
    """Kill the launcher's group once W&B was given steps that come after the last checkpoint."""
    process = subprocess.Popen(
        command(mode), env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + PATIENCE
    run, there, step = RunDirectory("none"), list[Checkpoint](), None
    while True:
        assert time.monotonic() < deadline
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.1)
        for found in Path("runs/debug").glob("*/tracking/cursor.json"):
            run = RunDirectory(found.parents[1])
            there, step = checkpoints(run.path), read_cursor(found).step
        if there and step and step > there[-1].step + 20:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    while is_locked(run.path) or is_locked(run.path / "tracking"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert run.status == "interrupted"
    return run


@pytest.mark.processes
@pytest.mark.parametrize("mode", ["online", pytest.param("offline", marks=pytest.mark.slow)])
def test_two_processes_that_are_killed_and_go_on_are_one_w_and_b_run(logged_in: WandbDouble, mode: str) -> None:
    run = kill_where_w_and_b_is_ahead(mode)
    first = checkpoints(run.path)[-1].step
    done = subprocess.run(
        command(mode),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"continues after step {first}" in done.stdout
    assert (run.status, run.info.generation) == ("finished", 1)
    if mode == "online":
        server = logged_in.only_run
        assert_each_step_once(server.rows(), run.path)
        assert (server.complete, server.exit_code) == (True, 0)
    else:
        assert len({log.name for log in logs(run.path)}) == 1
        assert_each_step_once(mirrored(run.path), run.path)
