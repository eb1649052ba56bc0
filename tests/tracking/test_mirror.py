"""The mirror offline: what W&B's own reader finds in its files is what the records hold, each step once."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from induction_bump.records.directory import RunDirectory
from induction_bump.records.lock import RunBusyError
from induction_bump.records.schema import PHASE_CHANGES
from induction_bump.tracking import client
from induction_bump.tracking.destination import Destination
from induction_bump.tracking.mirror import Mirror, wandb_id
from induction_bump.tracking.track import track
from tests.tracking.growing import GrowingRun, expected_rows, numbers, small_run

OFFLINE = Destination("offline", "http://127.0.0.1:9", "induction-bump", None, ("made-up",))


def logs(path: Path) -> list[Path]:
    """Transaction logs of a run in order of time."""
    return sorted((path / "tracking" / "wandb").glob("offline-run-*/*.wandb"), key=lambda log: log.stat().st_mtime)


def mirrored(path: Path, identity: str | None = None) -> list[dict[str, Any]]:
    """Rows in W&B's files, over all logs of one W&B run, in order."""
    identity = identity or wandb_id(RunDirectory(path).info)
    return [row for log in logs(path) if log.stem == f"run-{identity}" for row in client.read_log(log)]


def records_of(log: Path, kind: str) -> list[dict[str, Any]]:
    """Records of a kind in a transaction log, read by W&B's own reader."""
    from wandb.util import get_core_path

    command = [get_core_path(), "leet", "inspect", "-no-observability", "-json", "-run-file", str(log)]
    read = subprocess.run(command, capture_output=True, check=True, text=True)
    entries = [json.loads(line) for line in read.stdout.splitlines()]
    return [entry[kind] for entry in entries if entry["type"] == kind]


def assert_mirrored(path: Path, rows: list[dict[str, Any]] | None = None) -> None:
    """Each step of the records is there once, in order, with the same numbers."""
    rows = mirrored(path) if rows is None else rows
    expected = expected_rows(path)
    assert [row["_step"] for row in rows] == sorted(expected)
    for row in rows:
        assert numbers(row) == expected[row["_step"]]


def mirror_wholly(path: Path, **options: Any) -> int:
    mirror = Mirror(RunDirectory(path), OFFLINE, **options)
    count = mirror.advance()
    mirror.close()
    return count


def test_an_offline_run_read_back_equals_the_records(tmp_path: Path) -> None:
    path = small_run(tmp_path)
    assert mirror_wholly(path) == len(expected_rows(path))
    assert_mirrored(path)


def test_tokens_are_the_axis_of_every_key(tmp_path: Path) -> None:
    path = small_run(tmp_path)
    mirror_wholly(path)
    metrics = records_of(logs(path)[0], "metric")
    assert {"glob_name": "*", "step_metric": "tokens"}.items() <= metrics[-1].items()
    assert all("tokens" in row for row in mirrored(path))


def test_the_wandb_run_is_named_grouped_and_configured(tmp_path: Path) -> None:
    path = small_run(tmp_path, study="induction", name="two-layers")
    mirror_wholly(path)
    (about, *_) = records_of(logs(path)[0], "run")
    assert about["run_id"] == wandb_id(RunDirectory(path).info)
    assert (about["display_name"], about["run_group"], about["job_type"]) == ("two-layers", "induction", "train")
    assert (about["project"], about["tags"]) == ("induction-bump", ["made-up"])
    config = about["config"]["update"]
    assert config["training"]["learning_rate"] == 0.004
    assert config["run"]["parameters"] == 74_000
    assert config["run"]["run_id"] == RunDirectory(path).info.run_id


def test_charts_are_drawn_of_positions_and_heads(tmp_path: Path) -> None:
    path = small_run(tmp_path)
    mirror_wholly(path)
    last = mirrored(path)[-1]
    positions = pq.read_table(path / "tables" / "positions.parquet").to_pandas().query(f"step == {last['_step']}")
    assert last["loss_by_position.values"] == positions.sort_values("position").loss.tolist()
    pictures = last["heads/grid.filenames"]
    assert len(pictures) == 5
    assert all((logs(path)[0].parent / "files" / picture).is_file() for picture in pictures)


def test_a_growing_run_is_followed_as_it_is_committed(tmp_path: Path) -> None:
    growing = GrowingRun(tmp_path)
    mirror = Mirror(growing.run, OFFLINE)
    growing.grow(0, 30)
    assert mirror.advance() == 30
    assert mirror.advance() == 0
    growing.grow(31, growing.last_step)
    assert mirror.advance() == growing.last_step - 30 + 1
    growing.end()
    mirror.close()
    assert_mirrored(growing.path)


def test_a_mirror_that_starts_again_goes_on_where_the_last_one_closed(tmp_path: Path) -> None:
    growing = GrowingRun(tmp_path)
    for first, last in ((0, 30), (31, 100), (101, growing.last_step)):
        growing.grow(first, last)
        mirror_wholly(growing.path)
    growing.end()
    mirror_wholly(growing.path)
    assert len(logs(growing.path)) > 1
    assert_mirrored(growing.path)


def test_the_cursor_says_what_was_handed_over(tmp_path: Path) -> None:
    growing = GrowingRun(tmp_path)
    growing.grow(0, 30)
    mirror_wholly(growing.path)
    cursor = json.loads((growing.path / "tracking" / "cursor.json").read_text())
    measured = max(step for step in growing.snapshot_steps if step < 30)
    assert (cursor["generation"], cursor["training_step"], cursor["snapshot_step"]) == (1, 29, measured)
    assert cursor["closed"]


def test_a_finished_mirror_has_nothing_to_do_and_opens_no_wandb_run(tmp_path: Path) -> None:
    path = small_run(tmp_path)
    mirror_wholly(path)
    assert mirror_wholly(path) == 0
    assert len(logs(path)) == 1


@pytest.mark.parametrize("damage", ["{", '{"generation": 1, "surprise": 2}', None])
def test_a_lost_or_damaged_cursor_doubles_nothing(tmp_path: Path, damage: str | None) -> None:
    path = small_run(tmp_path)
    mirror_wholly(path)
    cursor = path / "tracking" / "cursor.json"
    if damage is None:
        cursor.unlink()
    else:
        cursor.write_text(damage)
    assert mirror_wholly(path) == 0
    assert_mirrored(path)


def test_rows_that_never_reached_the_disk_are_handed_over_again(tmp_path: Path) -> None:
    """A cursor without an orderly close may be ahead of what W&B's client kept."""
    path = small_run(tmp_path)
    mirror_wholly(path)
    (log,) = logs(path)
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
    cursor = path / "tracking" / "cursor.json"
    cursor.write_text(json.dumps(json.loads(cursor.read_text()) | {"closed": False, "pid": 0}))
    assert 0 < mirror_wholly(path) < len(expected_rows(path))
    assert_mirrored(path)


def test_a_run_started_again_is_another_wandb_run(tmp_path: Path) -> None:
    growing = GrowingRun(tmp_path)
    mirror = Mirror(growing.run, OFFLINE)
    growing.grow(0, 50)
    mirror.advance()
    first = wandb_id(growing.run.info)
    growing.die()
    growing.start_again()
    growing.grow(0, growing.last_step)
    growing.end()
    mirror.advance()
    mirror.close()
    assert wandb_id(growing.run.info) != first
    assert [row["_step"] for row in mirrored(growing.path, first)] == list(range(50))
    assert_mirrored(growing.path)


def test_a_run_that_finishes_after_its_last_row_was_mirrored_is_marked_as_finished(tmp_path: Path) -> None:
    growing = GrowingRun(tmp_path)
    growing.grow(0, growing.last_step)
    mirror_wholly(growing.path)
    growing.end()
    assert mirror_wholly(growing.path) == 0
    assert [records_of(log, "exit")[-1].get("exit_code", 0) for log in logs(growing.path)] == [1, 0]


def test_two_runs_mirrored_by_one_process_stay_apart(tmp_path: Path) -> None:
    paths = [small_run(tmp_path, name=name, seed=seed) for seed, name in enumerate(("a", "b"))]
    mirrors = [Mirror(RunDirectory(path), OFFLINE) for path in paths]
    for mirror in mirrors:
        mirror.advance(most=60)
    for mirror in mirrors:
        mirror.advance()
        mirror.close()
    for path in paths:
        assert len(logs(path)) == 1
        assert_mirrored(path)


def test_located_events_are_in_the_summary_once_they_are_there(tmp_path: Path) -> None:
    path = small_run(tmp_path)
    mirror_wholly(path)
    event = dict.fromkeys(PHASE_CHANGES.names) | {
        "run_id": RunDirectory(path).info.run_id,
        "run": path.name,
        "event": "icl",
        "found": True,
        "tokens_low": 400_000,
        "tokens_high": 500_000,
    }
    other = event | {"run_id": "another", "found": False}
    pq.write_table(pa.Table.from_pylist([other, event], PHASE_CHANGES), path.parent / "phase_changes.parquet")
    assert mirror_wholly(path) == 0
    entries: dict[str, Any] = {}
    for update in records_of(logs(path)[-1], "summary"):
        entries |= update["update"]
    located = {key: value for key, value in entries.items() if key.startswith("bump/")}
    assert located == {"bump/icl/found": True, "bump/icl/tokens_low": 400_000, "bump/icl/tokens_high": 500_000}
    mirror_wholly(path)
    assert len(logs(path)) == 2


def test_a_second_process_is_kept_out_while_one_mirrors(tmp_path: Path) -> None:
    path = small_run(tmp_path)
    first = Mirror(RunDirectory(path), OFFLINE)
    first.advance(most=10)
    with pytest.raises(RunBusyError, match=str(os.getpid())):
        Mirror(RunDirectory(path), OFFLINE).advance()
    first.close()
    mirror_wholly(path)
    assert_mirrored(path)


def test_nothing_is_left_outside_the_run(tmp_path: Path) -> None:
    path = small_run(tmp_path)
    before = dict(os.environ)
    mirror_wholly(path)
    assert list((tmp_path / "work").iterdir()) == []
    assert list((tmp_path / "home").iterdir()) == []
    assert {entry.name for entry in (path / "tracking").iterdir()} == {"wandb", "cursor.json", "lock"}
    assert dict(os.environ) == before


def test_tracking_a_study_mirrors_each_run_and_says_how_much(tmp_path: Path) -> None:
    paths = [small_run(tmp_path, name=name, seed=seed) for seed, name in enumerate(("a", "b"))]
    first = track(paths[0].parent)
    assert [(t.run, t.rows, t.mode, t.problem) for t in first] == [
        (path, len(expected_rows(path)), "offline", None) for path in paths
    ]
    assert [t.rows for t in track(paths[0].parent)] == [0, 0]
    for path in paths:
        assert_mirrored(path)


def test_tracking_again_replaces_what_was_there(tmp_path: Path) -> None:
    path = small_run(tmp_path)
    track(path)
    (tracked,) = track(path, again=True)
    assert tracked.rows == len(expected_rows(path))
    assert_mirrored(path)


def test_trouble_with_one_run_does_not_keep_the_others_back(tmp_path: Path) -> None:
    broken, whole = (small_run(tmp_path, name=name) for name in ("a", "b"))
    (broken / "tables" / "heads.parquet").write_bytes(b"not Parquet")
    first, second = track(broken.parent)
    assert first.problem
    assert "heads.parquet" in first.problem
    assert second.problem is None
    assert_mirrored(whole)


MIRROR_SLOWLY = """
import sys, time
from pathlib import Path
from induction_bump.records.directory import RunDirectory
from induction_bump.tracking.destination import choose
from induction_bump.tracking.mirror import Mirror
from induction_bump.tracking.options import TrackingOptions
mirror = Mirror(RunDirectory(Path(sys.argv[1])), choose(TrackingOptions(mode="offline")))
while mirror.advance(most=7):
    print(mirror.step, flush=True)
time.sleep(60)
"""


@pytest.mark.processes
@pytest.mark.parametrize("service_too", [False, True], ids=["its service lives on", "its service too"])
def test_a_mirror_killed_in_the_middle_loses_and_doubles_nothing(tmp_path: Path, service_too: bool) -> None:
    path = small_run(tmp_path)
    victim = subprocess.Popen([sys.executable, "-c", MIRROR_SLOWLY, str(path)], stdout=subprocess.PIPE, text=True)
    with victim:
        assert victim.stdout
        while int(victim.stdout.readline()) < 60:
            pass
        services = list(client.services_of(victim.pid)) if service_too else []
        for process in services:
            process.kill()
        victim.send_signal(signal.SIGKILL)
    assert bool(services) == service_too
    assert mirror_wholly(path) > 0
    assert_mirrored(path)


def test_what_a_dead_service_held_is_handed_over_again(tmp_path: Path) -> None:
    path = small_run(tmp_path)
    mirror = Mirror(RunDirectory(path), OFFLINE)
    mirror.advance(most=60)
    for service in client.services_of(os.getpid()):
        service.kill()
        service.wait(5)
    started = time.monotonic()
    mirror.abandon()
    mirror.advance()
    mirror.close()
    assert time.monotonic() - started < 30
    assert_mirrored(path)


def test_the_destination_is_part_of_the_cursor(tmp_path: Path) -> None:
    elsewhere = replace(OFFLINE, mode="online", project="other")
    assert elsewhere.label != OFFLINE.label
    assert elsewhere.label != replace(elsewhere, project="third").label
