"""Several cells at once on one machine: each on its own devices, and none lost whatever is ended."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from induction_bump.cli.main import main
from tests.launch.sweeping import Sweep, until

pytestmark = pytest.mark.processes

POOL = "hydra/launcher=pool"
TWO = (POOL, "hydra.launcher.n_jobs=2", "devices.threads=1")

needs_two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two cells at once need two cores")


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Callable[..., Sweep]]:
    """Starts sweeps and cleans up after them."""
    started: list[Sweep] = []

    def start(*arguments: str, seeds: int = 3) -> Sweep:
        started.append(Sweep.start(tmp_path, *arguments, seeds=seeds))
        return started[-1]

    yield start
    for each in started:
        each.clean_up()


@needs_two_cores
def test_cells_run_beside_each_other_on_cores_of_their_own_and_one_that_fails_hurts_no_other(
    sweep: Callable[..., Sweep], tmp_path: Path
) -> None:
    (tmp_path / "fail-2").touch()
    running = sweep(*TWO, seeds=4)
    begun = running.await_runs(2)
    assert set(begun) == {0, 1}
    assert [told["threads"] for told in begun.values()] == ["1", "1"]
    assert [len(told["cores"]) for told in begun.values()] == [1, 1]
    assert begun[0]["cores"] != begun[1]["cores"]
    (tmp_path / "go-1").touch()
    until(lambda: set(running.begun()) == {0, 1, 2, 3}, "the others took the free core")
    assert not list(tmp_path.glob("ended-0-*"))
    assert running.begun()[3]["cores"] == begun[1]["cores"]
    (tmp_path / "go").touch()
    code, said, complaints = running.end()
    assert code == 1
    assert running.statuses() == {0: "finished", 1: "finished", 2: "failed", 3: "finished"}
    assert [line.split()[0] for line in said.splitlines()[-4:]] == ["finished", "finished", "failed", "finished"]
    failed = running.runs()[2].path
    assert f"bump: {failed.name}: RuntimeError: the loss is not finite\n      log: {failed}/log.txt" in complaints
    until(running.none_left, "no process is left")


@needs_two_cores
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGUSR1, marks=pytest.mark.slow)])
def test_a_signal_to_the_launcher_alone_stops_all_cells_and_the_next_call_goes_on(
    number: signal.Signals, sweep: Callable[..., Sweep], tmp_path: Path
) -> None:
    running = sweep(*TWO)
    running.await_runs(2)
    running.process.send_signal(number)
    code, said, complaints = running.end()
    assert code == 75
    assert complaints == ""
    assert [line.split()[0] for line in said.splitlines()[-3:]] == ["preempted", "preempted", "waiting"]
    assert running.statuses() == {0: "preempted", 1: "preempted"}
    until(running.none_left, "no process is left")
    (tmp_path / "go").touch()
    assert sweep(*TWO).end()[0] == 0
    assert running.statuses() == {0: "finished", 1: "finished", 2: "finished"}


@needs_two_cores
def test_ctrl_c_reaches_the_whole_group_and_a_second_one_ends_what_does_not_listen(
    sweep: Callable[..., Sweep], tmp_path: Path
) -> None:
    (tmp_path / "deaf").touch()
    running = sweep(*TWO)
    running.await_runs(2)
    os.killpg(running.process.pid, signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        running.process.wait(1.5)
    os.killpg(running.process.pid, signal.SIGINT)
    code, _, complaints = running.end()
    assert (code, complaints) == (75, "")
    until(running.none_left, "no process is left")


@needs_two_cores
@pytest.mark.parametrize("whole_group", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_nothing_is_left_of_a_launcher_that_is_killed(whole_group: bool, sweep: Callable[..., Sweep]) -> None:
    running = sweep(*TWO)
    running.await_runs(2)
    if whole_group:
        os.killpg(running.process.pid, signal.SIGKILL)
    else:
        running.process.kill()
    until(running.none_left, "no process is left")
    assert {run.status for run in running.runs().values()} == {"interrupted"}


@needs_two_cores
def test_when_a_process_of_the_pool_is_killed_its_cell_is_tried_again_and_the_others_finish(
    sweep: Callable[..., Sweep], tmp_path: Path
) -> None:
    running = sweep(*TWO)
    begun = running.await_runs(2)
    os.kill(begun[0]["launcher"], signal.SIGKILL)
    until(lambda: running.begun()[0]["pid"] != begun[0]["pid"], "the cell was begun again")
    (tmp_path / "go").touch()
    code, _, complaints = running.end()
    assert (code, complaints) == (0, "")
    assert running.statuses() == {0: "finished", 1: "finished", 2: "finished"}


@needs_two_cores
@pytest.mark.slow
def test_a_cell_whose_process_is_killed_each_time_is_given_up(sweep: Callable[..., Sweep], tmp_path: Path) -> None:
    (tmp_path / "go-1").touch()
    (tmp_path / "go-2").touch()
    running = sweep(*TWO)
    killed: set[int] = set()
    for _ in range(2):
        until(lambda: running.begun().get(0, {"pid": None})["pid"] not in {None, *killed}, "it was begun")
        told = running.begun()[0]
        killed.add(told["pid"])
        os.kill(told["launcher"], signal.SIGKILL)
    code, _, complaints = running.end()
    assert code == 1
    assert "the process of the pool that ran it was ended" in complaints
    assert "Traceback" not in complaints
    assert running.statuses() == {0: "failed", 1: "finished", 2: "finished"}


@pytest.mark.slow
def test_two_launchers_share_the_devices_and_no_run_is_written_by_two(
    sweep: Callable[..., Sweep], tmp_path: Path
) -> None:
    all_cores = f"devices.threads={len(os.sched_getaffinity(0))}"
    first, second = sweep(POOL, all_cores), sweep(POOL, all_cores)
    for count in (1, 2, 3):
        until(lambda count=count: len(first.begun()) == count, "the next run has begun")  # type: ignore[misc]
        assert len(list(tmp_path.glob("begun-*"))) == count
        assert len(list(tmp_path.glob("ended-*"))) == count - 1
        (tmp_path / f"go-{max(first.begun(), key=lambda seed: not list(tmp_path.glob(f'ended-{seed}-*')))}").touch()
    assert [first.end()[0], second.end()[0]] == [0, 0]
    assert [told["generation"] for told in first.begun().values()] == [1, 1, 1]


@pytest.mark.slow
def test_a_cell_that_another_launcher_trains_is_looked_at_again_at_the_end(
    sweep: Callable[..., Sweep], tmp_path: Path
) -> None:
    first = sweep(seeds=2)
    first.await_runs(1)
    second = sweep(seeds=2)
    until(lambda: set(second.begun()) == {0, 1}, "the second took the other cell")
    (tmp_path / "go").touch()
    code, said, _ = second.end()
    assert (first.end()[0], code) == (0, 0)
    assert [line.split()[0] for line in said.splitlines()[-2:]] == ["skipped", "finished"]


@pytest.mark.parametrize("wrong", ["0", "-1", "two", "1.5", "true"])
def test_a_wrong_number_of_jobs_is_refused_in_one_line(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "-m", "seed.init=0,1", POOL, f"hydra.launcher.n_jobs={wrong}"]) == 2
    [said] = capfd.readouterr().err.splitlines()
    assert said.startswith("bump: hydra.launcher.n_jobs=")
    assert "must be a whole number of at least 1, or null" in said
    assert list(tmp_path.iterdir()) == []


def test_an_option_that_the_pool_does_not_have_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "-m", "seed.init=0,1", POOL, "+hydra.launcher.njobs=2"]) == 2
    said = capfd.readouterr().err
    assert said == "bump: hydra.launcher.njobs: hydra/launcher=pool has no such option; it has n_jobs\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("launcher", "instead"), [("joblib", "pool"), ("submitit_local", "slurm"), ("submitit_slurm", "slurm")]
)
def test_a_launcher_that_would_lend_no_devices_or_take_signals_is_refused_for_ours(
    launcher: str,
    instead: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "-m", "seed.init=0,1", f"hydra/launcher={launcher}"]) == 2
    [said] = capfd.readouterr().err.splitlines()
    assert said.startswith(f"bump: hydra/launcher={launcher}: must be {instead}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("launcher", "extra"), [("pool", "joblib"), ("slurm_local", "submitit")])
def test_a_launcher_that_is_not_installed_says_what_to_install(
    launcher: str,
    extra: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from importlib.util import find_spec

    from induction_bump.launch import pool

    def without(name: str) -> object:
        return None if name.startswith("hydra_plugins.hydra_") else find_spec(name)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pool.importlib.util, "find_spec", without)
    assert main(["train", "-m", "seed.init=0,1", f"hydra/launcher={launcher}"]) == 2
    [said] = capfd.readouterr().err.splitlines()
    assert said == (
        f"bump: hydra/launcher={launcher}: needs hydra-{extra}-launcher; pip install 'induction-bump[{extra}]'"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_cell_for_more_gpus_than_there_are_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(["train", "-m", "seed.init=0,1", POOL, "devices=gpu"]) == 2
    assert "devices.count=1: this machine has 0 CUDA devices" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
