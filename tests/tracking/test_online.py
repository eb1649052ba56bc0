"""The mirror online, against a local double of the server: everything arrives once, and nothing waits for ever."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from induction_bump.records.directory import RunDirectory
from induction_bump.tracking import client
from induction_bump.tracking.destination import Destination, choose
from induction_bump.tracking.mirror import Mirror, wandb_id
from induction_bump.tracking.options import TrackingOptions
from induction_bump.tracking.track import track
from tests.tracking.growing import GrowingRun, expected_rows, numbers, small_run
from tests.tracking.wandb_double import API_KEY, RunOnServer, WandbDouble, serving

AUTO = TrackingOptions(mode="auto")


def destination() -> Destination:
    chosen = choose(AUTO)
    assert chosen
    assert chosen.mode == "online"
    return chosen


def assert_arrived(server: RunOnServer, path: Path) -> None:
    """Each step of the records is on the server once, in order, with the same numbers."""
    rows = server.rows()
    expected = expected_rows(path)
    assert [row["_step"] for row in rows] == sorted(expected)
    for row in rows:
        flat = {key: value for key, value in row.items() if not isinstance(value, dict | list)}
        assert numbers(flat) == expected[row["_step"]]


def mirror_wholly(path: Path, **options: Any) -> int:
    mirror = Mirror(RunDirectory(path), destination(), **options)
    count = mirror.advance()
    mirror.close()
    return count


def test_an_online_run_arrives_whole(logged_in: WandbDouble, tmp_path: Path) -> None:
    path = small_run(tmp_path, study="induction", name="two-layers")
    mirror_wholly(path)
    server = logged_in.only_run
    assert_arrived(server, path)
    assert server.name == wandb_id(RunDirectory(path).info)
    about = server.about
    assert (about["groupName"], about["displayName"], about["jobType"]) == ("induction", "two-layers", "train")
    assert server.config["training"]["value"]["learning_rate"] == 0.004
    assert server.exit_code == 0
    assert server.rows()[-1]["loss_by_position"]["_type"] == "histogram"
    pictures = {name: data for name, data in server.uploads.items() if name.startswith("media/images/heads/grid")}
    assert len(pictures) >= 5
    assert all(data.startswith(b"\x89PNG") for data in pictures.values())


def test_no_key_is_left_in_the_runs_files(logged_in: WandbDouble, tmp_path: Path) -> None:
    path = small_run(tmp_path)
    mirror_wholly(path)
    kept = [file for file in (path / "tracking").rglob("*") if file.is_file() and not file.is_symlink()]
    assert kept
    assert not any(API_KEY.encode() in file.read_bytes() for file in kept)


def test_a_run_that_failed_is_marked_as_failed(logged_in: WandbDouble, tmp_path: Path) -> None:
    growing = GrowingRun(tmp_path)
    growing.grow(0, 20)
    growing.end("failed")
    mirror_wholly(growing.path)
    assert logged_in.only_run.exit_code == 1


def test_the_next_mirror_goes_on_where_the_server_is(logged_in: WandbDouble, tmp_path: Path) -> None:
    growing = GrowingRun(tmp_path)
    growing.grow(0, 50)
    mirror_wholly(growing.path)
    growing.grow(51, growing.last_step)
    growing.end()
    assert mirror_wholly(growing.path) == growing.last_step - 50 + 1
    assert_arrived(logged_in.only_run, growing.path)


@pytest.mark.parametrize("lost", [1, 40])
def test_rows_that_the_server_lost_are_sent_again(logged_in: WandbDouble, tmp_path: Path, lost: int) -> None:
    path = small_run(tmp_path)
    mirror_wholly(path)
    logged_in.only_run.lose(lost)
    assert mirror_wholly(path) == lost
    assert_arrived(logged_in.only_run, path)


def test_a_mirror_that_was_offline_goes_online_whole(
    logged_in: WandbDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_run(tmp_path)
    with monkeypatch.context() as changed:
        changed.delenv("WANDB_API_KEY")
        (offline,) = track(path, "auto")
    (online,) = track(path, "auto")
    assert (offline.mode, online.mode) == ("offline", "online")
    assert offline.rows == online.rows == len(expected_rows(path))
    assert_arrived(logged_in.only_run, path)


@pytest.mark.processes
def test_the_files_of_a_mirror_that_was_begun_anew_sync_as_one_history(logged_in: WandbDouble, tmp_path: Path) -> None:
    growing = GrowingRun(tmp_path)
    for first, last in ((0, 30), (31, growing.last_step)):
        growing.grow(first, last)
        if last == growing.last_step:
            growing.end()
        (tracked,) = track(growing.path, "offline")
        assert tracked.problem is None
    logs = sorted(map(str, (growing.path / "tracking" / "wandb").glob("offline-run-*")))
    assert len(logs) == 2
    command = [sys.executable, "-m", "wandb", "sync", "--yes", *logs]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert_arrived(logged_in.only_run, growing.path)


def test_tracking_again_replaces_what_the_server_has(logged_in: WandbDouble, tmp_path: Path) -> None:
    path = small_run(tmp_path)
    mirror_wholly(path)
    history = logged_in.only_run.lines["wandb-history.jsonl"]
    history[30] = history[30].replace('"_step":30', '"_step":29')
    (tracked,) = track(path, "online", again=True)
    assert tracked.rows == len(expected_rows(path))
    assert_arrived(logged_in.only_run, path)


def test_two_runs_of_a_study_are_two_wandb_runs(logged_in: WandbDouble, tmp_path: Path) -> None:
    paths = [small_run(tmp_path, name=name, seed=seed) for seed, name in enumerate(("a", "b"))]
    track(paths[0].parent, "auto")
    assert len(logged_in.runs) == 2
    for path in paths:
        assert_arrived(logged_in.runs[wandb_id(RunDirectory(path).info)], path)


def test_a_server_that_dies_in_the_middle_costs_bounded_time_and_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    growing = GrowingRun(tmp_path)
    with serving() as server:
        server.log_in(monkeypatch)
        mirror = Mirror(growing.run, destination(), finish_seconds=3)
        growing.grow(0, 50)
        mirror.advance()
        # The client uploads every 15 seconds.
        while not server.only_run.rows():
            time.sleep(0.1)
    growing.grow(51, growing.last_step)
    growing.end()
    started = time.monotonic()
    assert mirror.advance() > 0
    with pytest.raises(TimeoutError):
        mirror.close()
    mirror.abandon()
    assert time.monotonic() - started < 30

    with serving() as server:
        server.log_in(monkeypatch)
        (tracked,) = track(growing.path, "auto")
        assert tracked.problem is None
        assert_arrived(server.only_run, growing.path)


def test_a_server_that_comes_back_gets_the_rest(logged_in: WandbDouble, tmp_path: Path) -> None:
    growing = GrowingRun(tmp_path)
    mirror = Mirror(growing.run, destination(), finish_seconds=40)
    growing.grow(0, 50)
    mirror.advance()
    logged_in.broken.set()
    growing.grow(51, growing.last_step)
    growing.end()
    mirror.advance()
    time.sleep(1)
    logged_in.broken.clear()
    mirror.close()
    assert_arrived(logged_in.only_run, growing.path)


def test_what_a_silent_server_kept_waiting_can_go_offline(
    logged_in: WandbDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.tracking.test_mirror import assert_mirrored

    monkeypatch.setattr(client, "INIT_SECONDS", 2.0)
    path = small_run(tmp_path)
    logged_in.silent.set()
    started = time.monotonic()
    (tracked,) = track(path, "auto", finish_seconds=2)
    assert time.monotonic() - started < 30
    assert tracked.problem
    assert "\n" not in tracked.problem
    (offline,) = track(path, "offline")
    assert offline.problem is None
    assert_mirrored(path)


def test_the_label_of_a_server_names_it(logged_in: WandbDouble) -> None:
    online = destination()
    assert online.label == f"{logged_in.url} /induction-bump"
    assert replace(online, entity="team").label == f"{logged_in.url} team/induction-bump"
