"""Rank 0 locks, begins, logs and ends the run; what it cannot write down it tells its launcher."""

import errno
import json
import logging
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from induction_bump.config.resolve import dump, load
from induction_bump.launch import accompanied, cell, note, stop, worker
from induction_bump.launch.job import Job
from induction_bump.launch.outcome import Outcome
from induction_bump.launch.ranks import Rank
from induction_bump.records.directory import RunDirectory
from induction_bump.records.lock import RunLock, is_locked
from induction_bump.training.errors import FirstRankFailedError
from induction_bump.training.options import RunConfig
from tests.launch.conftest import StandInTraining


def work(config: RunConfig, rank: Rank | None = None) -> tuple[Outcome, RunDirectory]:
    job = cell.plan(config)
    return worker.work(job, rank), RunDirectory(job.path)


def raising(error: Exception) -> Any:
    def train(run: RunDirectory) -> None:
        raise error

    return train


def test_a_run_is_begun_trained_and_finished(config: RunConfig, training: StandInTraining) -> None:
    seen: list[tuple[str, bool]] = []
    training.does = lambda run: seen.append((run.info.status, is_locked(run.path)))
    outcome, run = work(config)
    assert seen == [("running", True)]
    assert outcome.status == run.status == "finished"
    assert outcome.code == 0
    assert not is_locked(run.path)
    assert training.calls == [config]


def test_the_directory_tells_everything_that_the_run_is(config: RunConfig, training: StandInTraining) -> None:
    _, run = work(config)
    info = run.info
    assert load(run.config) == config
    assert run.path.name == f"{info.name}-{info.run_id}"
    assert info.study == "debug"
    assert info.total_tokens == 20 * info.tokens_per_step
    assert info.hashes["corpus"]
    assert {"python", "torch", "pytorch-lightning", "induction-bump"} <= info.versions.keys()
    assert int(info.hardware["cores"]) >= 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", info.started_at)


def test_a_finished_run_is_not_touched_again(config: RunConfig, training: StandInTraining) -> None:
    _, run = work(config)
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.name != "lock"}
    outcome, _ = work(config)
    assert outcome.status == "skipped"
    assert len(training.calls) == 1
    assert before == {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.name != "lock"}


def test_an_unfinished_run_starts_again_from_nothing_in_a_new_generation(
    config: RunConfig, training: StandInTraining
) -> None:
    def leave_something(run: RunDirectory) -> None:
        (run.path / "snapshots" / "00000003").mkdir(parents=True)
        raise RuntimeError("broken")

    training.does = leave_something
    _, run = work(config)
    created = run.info.created_at
    training.does = lambda run: None
    outcome, run = work(config)
    assert outcome.status == "finished"
    assert run.info.generation == 2
    assert run.info.created_at == created
    assert run.info.message is None
    assert not list(run.path.glob("snapshots/*"))


def test_a_failure_is_recorded_in_one_line_and_logged_with_its_traceback(
    config: RunConfig, training: StandInTraining
) -> None:
    training.does = raising(ZeroDivisionError("no\nway"))
    outcome, run = work(config)
    assert (outcome.status, outcome.message, outcome.code) == ("failed", "ZeroDivisionError: no", 1)
    assert (run.info.status, run.info.message) == ("failed", "ZeroDivisionError: no")
    assert "Traceback (most recent call last)" in (run.path / "log.txt").read_text(encoding="utf-8")


def test_what_breaks_because_the_launcher_has_gone_is_no_failure_of_the_run(
    config: RunConfig, training: StandInTraining
) -> None:
    training.does = raising(RuntimeError("connection closed by peer"))
    job = replace(cell.plan(config), launcher="1:0.0")
    assert not worker.work(job, None).recorded
    assert RunDirectory(job.path).status == "interrupted"


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "disk full: cannot write x.parquet"),
        (errno.EROFS, "read-only file system: cannot write x.parquet"),
    ],
)
def test_a_disk_that_takes_no_more_is_named_as_that(
    config: RunConfig, training: StandInTraining, number: int, message: str
) -> None:
    training.does = raising(OSError(number, os.strerror(number), "x.parquet"))
    outcome, run = work(config)
    assert outcome.code == 1
    assert outcome.message == run.info.message == message


def test_where_not_even_the_failure_can_be_written_the_outcome_still_tells_it(
    config: RunConfig, training: StandInTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run.json")

    def train(run: RunDirectory) -> None:
        monkeypatch.setattr(RunDirectory, "update", lambda *_, **__: (_ for _ in ()).throw(full))
        raise full

    training.does = train
    outcome, _ = work(config)
    assert outcome.message == "disk full: cannot write run.json"
    assert not outcome.recorded


def test_a_companion_is_ended_where_the_outcome_it_waits_for_cannot_be_written(
    config: RunConfig, training: StandInTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdout=subprocess.PIPE)
    monkeypatch.setattr(accompanied, "start", lambda path: beside)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run.json")

    def train(run: RunDirectory) -> None:
        monkeypatch.setattr(RunDirectory, "update", lambda *_, **__: (_ for _ in ()).throw(full))
        raise full

    training.does = train
    began = time.monotonic()
    try:
        assert work(config)[0].status == "failed"
        assert time.monotonic() - began < 30
        assert beside.poll() is not None
    finally:
        beside.kill()
        beside.wait()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_log_on_a_full_disk_says_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with worker._logging_to(Path("/dev/full")):
        logging.getLogger("induction_bump").info("a line")
    assert capfd.readouterr().err == ""


def test_a_stop_request_makes_the_run_preempted(config: RunConfig, training: StandInTraining) -> None:
    stop.request()
    outcome, run = work(config)
    assert outcome.status == run.info.status == "preempted"
    assert outcome.code == 75


def test_a_run_that_another_process_writes_is_left_alone(
    config: RunConfig, training: StandInTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LOCK_SECONDS", 0.2)
    job = cell.plan(config)
    held = RunLock(Path(job.path))
    held.acquire()
    outcome, run = work(config)
    held.release()
    assert outcome.code == 1
    assert f"being written by process {os.getpid()} on " in str(outcome.message)
    assert [path.name for path in run.path.iterdir()] == ["lock"]


def test_ranks_that_do_not_write_only_train(config: RunConfig, training: StandInTraining) -> None:
    outcome, run = work(config, Rank(1, 2, "torchrun"))
    assert outcome.status == "finished"
    assert not run.path.exists()
    assert len(training.calls) == 1


def test_missing_devices_are_refused_before_anything_is_written(
    config: RunConfig, training: StandInTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    asked = dump(config)
    asked["devices"] |= {"accelerator": "cuda"}
    outcome, run = work(load(asked))
    assert outcome.code == 2
    assert outcome.message == "devices.accelerator=cuda, devices.count=1: this machine has 0 CUDA devices"
    assert not run.path.exists()


@pytest.mark.parametrize(
    ("there", "count", "message"),
    [
        (0, 2, None),
        (2, 2, None),
        (1, 2, "devices.accelerator=auto, devices.count=2: this machine has 1 CUDA devices"),
    ],
)
def test_automatic_devices_are_refused_where_there_is_cuda_but_too_little_of_it(
    config: RunConfig,
    training: StandInTraining,
    monkeypatch: pytest.MonkeyPatch,
    there: int,
    count: int,
    message: str | None,
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA H200")
    asked = dump(config)
    asked["devices"] |= {"accelerator": "auto", "count": count}
    outcome, _ = work(load(asked))
    assert (outcome.status, outcome.message) == ("refused" if message else "finished", message)


@pytest.fixture
def as_child(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment of a launcher's child; gives the private directory."""
    private = tmp_path / "private"
    private.mkdir()
    for key, value in cell.plan(config).to_environment().items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv(stop.DIRECTORY, str(private))
    monkeypatch.setattr(stop, "ignore_signals", lambda: None)
    monkeypatch.setattr(worker, "_end_with_others", lambda directory: None)
    return private


@pytest.mark.parametrize("stopped", [True, False])
def test_a_child_leaves_no_note_where_all_end_together(
    as_child: Path, training: StandInTraining, stopped: bool
) -> None:
    training.does = lambda run: stop.request() if stopped else None
    assert worker.main() == 0
    assert note.find(as_child) is None


def test_a_child_whose_companion_left_something_undone_leaves_a_note_of_it(
    as_child: Path, training: StandInTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = ["sh", "-c", "echo left some rows"]
    monkeypatch.setattr(accompanied, "start", lambda path: subprocess.Popen(told, stdout=subprocess.PIPE))
    assert worker.main() == 0
    assert note.find(as_child) == note.Note(None, "finished", ("some rows",))


def test_a_child_that_failed_leaves_a_note_for_those_that_wait_for_it(
    as_child: Path, training: StandInTraining
) -> None:
    training.does = raising(RuntimeError("broken"))
    assert worker.main() == 0
    assert note.find(as_child) == note.Note("RuntimeError: broken", "failed")
    job = Job.from_environment()
    assert json.loads((Path(job.path) / "run.json").read_text(encoding="utf-8"))["message"] == "RuntimeError: broken"


def test_a_child_that_was_told_by_the_first_leaves_it_to_that_to_say_why(
    as_child: Path, training: StandInTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "x"}.items():
        monkeypatch.setenv(name, value)
    training.does = raising(FirstRankFailedError("the first rank failed; its log says why"))
    assert worker.main() == 0
    assert note.find(as_child) is None


def test_a_child_that_finds_the_run_finished_leaves_a_note(as_child: Path, training: StandInTraining) -> None:
    assert worker.main() == 0
    assert worker.main() == 0
    assert note.find(as_child) == note.Note(None, "skipped")
    assert len(training.calls) == 1


def test_a_child_that_cannot_write_leaves_a_note(
    as_child: Path, training: StandInTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "config.yaml")

    monkeypatch.setattr(RunDirectory, "begin", begin)
    assert worker.main() == 0
    assert note.find(as_child) == note.Note("read-only file system: cannot write config.yaml", "failed")


@pytest.mark.processes
def test_what_takes_long_to_import_and_is_not_used_is_not_imported() -> None:
    program = """
import sys
from induction_bump.launch import worker
with worker._sparing_imports():
    import induction_bump.training.train
assert "pytorch_lightning" in sys.modules
assert "scipy.stats" not in sys.modules
import scipy.signal
assert scipy.signal.windows.hamming(3).shape == (3,)
"""
    subprocess.run([sys.executable, "-W", "error::ImportWarning", "-c", program], check=True)
