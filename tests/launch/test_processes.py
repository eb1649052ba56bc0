"""No worker outlives its launcher, however that one ends; a stop is passed on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from induction_bump.launch.watch import Watched, kill_tree
from induction_bump.launch.workers import command

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
PATIENCE = 90.0
"""Seconds; torchrun alone takes several to start, on a busy machine many."""


def until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.05)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Launched:
    """A launcher of stand-in workers, in a process group of its own."""

    def __init__(self, path: Path, devices: int, deaf: bool = False) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        if deaf:
            environment["BUMP_TEST_DEAF"] = "1"
        self.path = path
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.launch.stand_in", str(path), str(devices)],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until(lambda: len(self.workers()) == devices, "all workers have started")
        self.below = psutil.Process(self.process.pid).children(recursive=True)

    def workers(self) -> list[int]:
        """Their pids."""
        return [int(path.name.split("-")[1]) for path in self.path.glob("worker-*")]

    def none_left(self) -> bool:
        """Whether workers, and torchrun where there is one, are gone."""
        return not any(
            p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in self.below if psutil.pid_exists(p.pid)
        )

    def clean_up(self) -> None:
        """Leave nothing, should a test have failed."""
        for process in self.below:
            kill_tree(process.pid)
        kill_tree(self.process.pid)
        self.process.wait()


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[Callable[..., Launched]]:
    """Starts launchers and cleans up after them."""
    started: list[Launched] = []

    def start(devices: int, deaf: bool = False) -> Launched:
        started.append(Launched(tmp_path, devices, deaf))
        return started[-1]

    yield start
    for each in started:
        each.clean_up()


@pytest.mark.parametrize("devices", [1, 2])
def test_workers_end_with_a_launcher_whose_group_is_killed(launched: Callable[..., Launched], devices: int) -> None:
    run = launched(devices)
    os.killpg(run.process.pid, signal.SIGKILL)
    until(run.none_left, "no worker and no torchrun is left")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_launcher_is_a_request_to_its_worker(
    launched: Callable[..., Launched], number: signal.Signals, tmp_path: Path
) -> None:
    run = launched(1)
    os.killpg(run.process.pid, number)
    assert run.process.wait(PATIENCE) == 0
    assert (tmp_path / "stopped").exists()
    assert run.none_left()


def test_a_signal_reaches_several_workers_too(launched: Callable[..., Launched], tmp_path: Path) -> None:
    run = launched(2)
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(PATIENCE) == 0
    assert (tmp_path / "stopped").exists()


@pytest.mark.parametrize("devices", [1, 2])
def test_a_second_ctrl_c_ends_workers_that_do_not_listen(launched: Callable[..., Launched], devices: int) -> None:
    run = launched(devices, deaf=True)
    run.process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        run.process.wait(1)
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(PATIENCE) != 0
    until(run.none_left, "no worker and no torchrun is left")


def test_signals_to_the_worker_itself_are_left_to_the_launcher(launched: Callable[..., Launched]) -> None:
    run = launched(1)
    [worker] = run.workers()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        os.kill(worker, number)
    time.sleep(0.5)
    assert psutil.Process(worker).is_running()


def test_one_device_is_a_child_and_several_are_torchruns() -> None:
    assert command(1) == [sys.executable, "-m", "induction_bump.launch.worker"]
    assert "torch.distributed.run" in command(2)


ON_PLATFORM = """
import sys, threading, psutil
sys.platform = sys.argv[1]
from induction_bump.launch.watch import Watched, end_with
"""
"""Of a process of its own: threads of this one may watch others, as this platform tells them apart."""
WHO = "print(Watched.parent())"
CLOCK_STEPS = """
if hasattr(psutil, "_pslinux"):
    psutil._pslinux.boot_time = lambda: 1.0
end_with(Watched.parse(sys.argv[2]), every_seconds=0.01)
threading.Event().wait(0.3)
print("still here")
"""
ONE_AFTER_THE_OTHER = """
import subprocess, time
first = subprocess.Popen(["sleep", "60"])
time.sleep(0.05)
second = subprocess.Popen(["sleep", "60"])
print(Watched.of(second.pid).alive(), Watched(second.pid, Watched.of(first.pid).started).alive())
for child in (first, second):
    child.kill()
    child.wait()
"""


def on_platform(platform: str, script: str, *arguments: str) -> str:
    """What a script prints where `sys.platform` is another."""
    command = [sys.executable, "-c", ON_PLATFORM + script, platform, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


class TestWatched:
    """A process is known by its pid and when it started, by whatever clock."""

    def test_this_process_is_alive_and_survives_being_written_down(self) -> None:
        this = Watched.this()
        assert this.alive()
        assert Watched.parse(str(this)) == this

    def test_a_later_process_with_the_same_pid_is_another(self) -> None:
        assert not Watched(os.getpid(), Watched.this().started - 100).alive()

    def test_a_zombie_is_gone(self) -> None:
        child = subprocess.Popen(["sleep", "60"])
        watched = Watched.of(child.pid)
        assert watched.alive()
        child.kill()
        until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE, "the child is a zombie")
        assert not watched.alive()
        with pytest.raises(ProcessLookupError, match=str(child.pid)):
            Watched.of(child.pid)
        child.wait()
        assert not watched.alive()

    @pytest.mark.parametrize("platform", ["linux", "darwin"])
    def test_a_step_of_the_clock_ends_nobody(self, platform: str) -> None:
        """When the machine booted is told as the clock has it, and so it follows every step."""
        this = on_platform(platform, WHO)
        assert this.startswith(f"{os.getpid()}:")
        assert on_platform(platform, CLOCK_STEPS, this) == "still here"

    @pytest.mark.parametrize("name", ["a) Z 1 (b", ") ) )", "(", "é \n) Z"])
    def test_whatever_a_process_is_called_does_not_matter(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).symlink_to(shutil.which("sleep") or "")
        child = subprocess.Popen(["sleep", "60"], executable=tmp_path / name)
        try:
            assert Watched.of(child.pid).started >= Watched.this().started
            assert Watched.of(child.pid).alive()
        finally:
            child.kill()
            child.wait()

    @pytest.mark.parametrize("platform", ["linux", "darwin"])
    def test_a_process_is_not_one_that_started_before_it(self, platform: str) -> None:
        assert on_platform(platform, ONE_AFTER_THE_OTHER) == "True False"
