"""`bump train` itself: launcher, workers, training and records, as a user starts them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from induction_bump.locate.events import find_events
from induction_bump.records.checkpoints import checkpoints
from induction_bump.records.directory import RunDirectory, find_runs
from induction_bump.records.lock import is_locked
from tests.training.runs import FEW_NGRAMS

pytestmark = pytest.mark.processes

PATIENCE = 240.0
ENDLESS = ["experiment=debug", "training.length=1000000step", FEW_NGRAMS, "tracking=none", "report=off"]


def bump(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `bump` in `directory`; the cache is its own."""
    return subprocess.run(
        [sys.executable, "-m", "induction_bump.cli.main", *arguments],
        cwd=directory,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def start(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `bump train` in `directory` and wait until its run has checkpoints, or was taken up again."""
    before = under_way(directory)
    process = subprocess.Popen(
        [sys.executable, "-m", "induction_bump.cli.main", "train", *arguments, "paths.cache=cache"],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + PATIENCE
    while under_way(directory) in (set(), before):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    return process


def under_way(directory: Path) -> set[tuple[Path, int]]:
    """Runs that have a checkpoint, and the processes that write them."""
    runs = [RunDirectory(path.parents[1]) for path in directory.glob("runs/*/*/checkpoints/0*")]
    return {(run.path, run.info.pid) for run in runs if run.info.status == "running"}


def only_run(directory: Path) -> RunDirectory:
    [run] = find_runs(directory / "runs/debug")
    return run


DEBUG = ["train", "experiment=debug", FEW_NGRAMS, "paths.cache=cache", "tracking=none"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Where the debug experiment was trained in one process, and how that ended, in a directory with traps."""
    directory = tmp_path_factory.mktemp("alone")
    for decoy in ("torch.py", "random.py", "datasets.py"):
        (directory / decoy).write_text("raise SystemExit('the working directory was imported')\n", encoding="utf-8")
    return directory, bump(directory, *DEBUG, PYTHONSAFEPATH="1")


def test_the_debug_experiment_goes_through_from_a_directory_with_traps(
    alone: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    directory, done = alone
    assert done.returncode == 0, done.stderr
    run = only_run(directory)
    assert run.status == "finished"
    assert run.snapshots()[-1].step == run.info.total_steps == 20
    assert not is_locked(run.path)
    assert done.stdout.splitlines()[-2:] == [f"study {directory}/runs/debug", f"  finished  {run.path.name}"]
    assert {path.name for path in directory.iterdir()} == {"torch.py", "random.py", "datasets.py", "runs", "cache"}


def test_two_processes_train_one_run_on_the_same_batches_as_one(
    tmp_path: Path, alone: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    done = bump(tmp_path, *DEBUG, "devices=two_cpu")
    assert done.returncode == 0, done.stderr
    assert "GLOBAL_RANK" not in done.stderr
    run = only_run(tmp_path)
    assert run.info.world_size == 2
    together, one = (of.table("training").column("loss").to_numpy() for of in (run, only_run(alone[0])))
    assert len(together) == 20
    assert together == pytest.approx(one, abs=1e-5)
    assert (together != one).any()  # the sums are taken in another order


@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_ctrl_c_stops_at_a_step_and_the_run_goes_on_from_there(tmp_path: Path, devices: int) -> None:
    overrides = [*ENDLESS, "devices=cpu", f"devices.count={devices}"]
    process = start(tmp_path, *overrides)
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=PATIENCE)
    assert process.returncode == 75
    assert "Traceback" not in complaints
    run = only_run(tmp_path)
    assert run.status == "preempted"
    first = checkpoints(run.path)[-1].step
    assert run.table("training").column("step").to_pylist() == list(range(1, first + 1))
    again = start(tmp_path, *overrides)
    again.send_signal(signal.SIGTERM)
    said, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 75
    assert f", continues after step {first};" in said or f", continues after step {first}\n" in said
    info = run.info
    assert info.generation == 1
    assert [(resumed.step, resumed.differs) for resumed in info.resumes] == [(first, [])]
    second = checkpoints(run.path)[-1].step
    assert second >= first
    assert run.table("training").column("step").to_pylist() == list(range(1, second + 1))


@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_nothing_is_left_of_a_run_whose_launchers_group_is_killed_and_it_can_go_on_at_once(
    tmp_path: Path, devices: int
) -> None:
    process = start(tmp_path, *ENDLESS, "devices=cpu", f"devices.count={devices}")
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) >= devices
    os.killpg(process.pid, signal.SIGKILL)
    again = start(tmp_path, *ENDLESS, "devices=cpu")
    process.communicate(timeout=PATIENCE)  # ends when the last of them has closed its output
    _, alive = psutil.wait_procs(below, timeout=30)
    assert alive == []
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=PATIENCE)
    assert again.returncode == 75
    run = only_run(tmp_path)
    assert (run.status, run.info.generation, len(run.info.resumes)) == ("preempted", 1, 1)
    steps = run.table("training").column("step").to_pylist()
    assert steps == list(range(1, checkpoints(run.path)[-1].step + 1))


def ranks_below(process: subprocess.Popen[str]) -> dict[int, psutil.Process]:
    """The workers that torchrun has started, by rank."""
    found: dict[int, psutil.Process] = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        if any("launch.worker" in part for part in child.cmdline()) and "RANK" in child.environ():
            found[int(child.environ()["RANK"])] = child
    return found


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_rank_that_dies_ends_the_others_and_the_next_call_goes_on(tmp_path: Path, rank: int) -> None:
    process = start(tmp_path, *ENDLESS, "devices=two_cpu")
    workers = ranks_below(process)
    assert workers.keys() == {0, 1}
    workers[rank].kill()
    began = time.monotonic()
    _, complaints = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - began < 60
    assert process.returncode == 1
    assert not any(worker.is_running() for worker in workers.values())
    run = only_run(tmp_path)
    assert run.status == "failed"
    assert str(run.info.message) in complaints
    again = start(tmp_path, *ENDLESS, "devices=cpu")
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=PATIENCE)
    assert again.returncode == 75
    assert (run.info.generation, len(run.info.resumes), run.info.message) == (1, 1, None)


def test_torchruns_ranks_are_the_ranks_of_one_run(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    overrides = [*DEBUG, "devices=two_cpu"]
    done = subprocess.run(
        [*torchrun, "-m", "induction_bump.cli.main", *overrides],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert only_run(tmp_path).status == "finished"
    assert done.stdout.count("study ") == 1


@pytest.mark.slow
def test_somebody_elses_torchrun_that_is_killed_leaves_no_ranks(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    process = subprocess.Popen(
        [*torchrun, "-m", "induction_bump.cli.main", "train", *ENDLESS, "devices=two_cpu", "paths.cache=cache"],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + PATIENCE
    while not under_way(tmp_path):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) >= 2
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(below, timeout=30)
    assert alive == []
    assert only_run(tmp_path).status == "interrupted"


FULL_DISK = """
import errno, os
from induction_bump.records import directory
def full(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "snapshots/00000000")
directory.RunDirectory.write_snapshot = full
"""


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_full_disk_is_the_reason_that_is_given_in_several_processes_too(tmp_path: Path, devices: int) -> None:
    (tmp_path / "patched").mkdir()
    (tmp_path / "patched/sitecustomize.py").write_text(FULL_DISK)
    path = os.pathsep.join([str(tmp_path / "patched"), *filter(None, [os.environ.get("PYTHONPATH")])])
    overrides = [*ENDLESS, "devices=cpu", f"devices.count={devices}", "paths.cache=cache"]
    done = bump(tmp_path, "train", *overrides, PYTHONPATH=path)
    assert done.returncode == 1
    assert "disk full: cannot write snapshots/00000000" in done.stderr
    assert only_run(tmp_path).info.message == "disk full: cannot write snapshots/00000000"


@pytest.mark.slow
def test_a_second_caller_waits_and_then_names_the_writer(tmp_path: Path) -> None:
    process = start(tmp_path, *ENDLESS)
    began = time.monotonic()
    second = bump(tmp_path, "train", *ENDLESS, "paths.cache=cache")
    assert time.monotonic() - began >= 30
    assert second.returncode == 1
    writer = psutil.Process(process.pid).children()[0].pid
    assert f"being written by process {writer} on " in second.stderr
    assert len(second.stderr.splitlines()) <= 2
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 75


def test_a_read_only_place_for_runs_is_a_failure_in_two_lines(tmp_path: Path) -> None:
    # a file where the directory should be: as unwritable for root as for anyone
    (tmp_path / "runs").touch()
    done = bump(tmp_path, "train", "experiment=debug", "paths.cache=cache", "tracking=none")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) <= 2
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_run_that_goes_on_on_another_number_of_devices_has_its_events_at_the_same_snapshots(tmp_path: Path) -> None:
    overrides = ["experiment=quickstart", "model=two_layers", "tracking=none", "report=off"]
    done = bump(tmp_path, "train", *overrides, "devices=cpu", "paths.cache=cache", "paths.runs=whole")
    assert done.returncode == 0, done.stderr
    stopped = start(tmp_path, *overrides, "devices=cpu")
    [where] = (tmp_path / "runs/quickstart").glob("*/run.json")
    run = RunDirectory(where.parent)
    while checkpoints(run.path)[-1].step < run.info.total_steps // 4:
        time.sleep(0.1)
    stopped.send_signal(signal.SIGTERM)
    stopped.communicate(timeout=PATIENCE)
    assert run.status == "preempted"
    done = bump(tmp_path, "train", *overrides, "devices=two_cpu", "paths.cache=cache")
    assert done.returncode == 0, done.stderr
    assert "2 processes instead of 1" in done.stdout
    steps = [snapshot.step for snapshot in run.snapshots()]
    [whole] = find_runs(tmp_path / "whole/quickstart")
    for expected, found in zip(find_events(whole), find_events(run), strict=True):
        assert found.verdict == expected.verdict
        if expected.found:
            places = [steps.index(event.interval[1].step) for event in (expected, found)]
            assert abs(places[0] - places[1]) <= 1, expected.name
    assert sum(event.found for event in find_events(run)) >= 3
