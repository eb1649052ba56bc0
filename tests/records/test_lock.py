"""One writer a run: a second one is told who the first is, and no lock outlives its process."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from induction_bump.records.directory import RunDirectory
from induction_bump.records.lock import RunBusyError, RunLock, is_locked
from tests.records.make import make_run

HOLD = """
import sys
from pathlib import Path
from induction_bump.records.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of tmp_path until its input ends."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_holder_in_the_same_process_is_refused(tmp_path: Path):
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    first.acquire()
    with pytest.raises(RunBusyError, match=rf"process {os.getpid()} on {socket.gethostname()}"):
        second.acquire(timeout=0)
    assert first.held
    assert not second.held
    first.release()
    second.acquire(timeout=0)
    second.release()


def test_a_lock_can_be_released_twice_and_taken_again(tmp_path: Path):
    lock = RunLock(tmp_path)
    lock.acquire(timeout=0)
    lock.release()
    lock.release()
    assert not is_locked(tmp_path)
    lock.acquire(timeout=0)
    assert is_locked(tmp_path)
    lock.release()


def test_no_run_is_locked_where_there_is_no_lock_file(tmp_path: Path):
    assert not is_locked(tmp_path)
    assert not (tmp_path / "lock").exists()


@pytest.mark.processes
def test_a_second_process_is_refused_with_host_and_pid_of_the_first(tmp_path: Path, holder: subprocess.Popen[str]):
    assert is_locked(tmp_path)
    with pytest.raises(RunBusyError) as caught:
        RunLock(tmp_path).acquire(timeout=0.2)
    assert f"process {holder.pid} on {socket.gethostname()}" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.processes
def test_the_lock_ends_with_a_killed_process(tmp_path: Path, holder: subprocess.Popen[str]):
    holder.kill()
    holder.wait()
    assert not is_locked(tmp_path)
    lock = RunLock(tmp_path)
    lock.acquire(timeout=1)
    lock.release()


@pytest.mark.processes
def test_a_caller_waits_for_a_holder_that_is_about_to_end(tmp_path: Path, holder: subprocess.Popen[str]):
    assert holder.stdin is not None
    holder.stdin.close()
    lock = RunLock(tmp_path)
    lock.acquire(timeout=20)
    assert lock.held
    lock.release()


def test_asking_whether_a_run_is_locked_does_not_take_the_lock(tmp_path: Path):
    lock = RunLock(tmp_path)
    lock.acquire(timeout=0)
    lock.release()
    assert not is_locked(tmp_path)
    assert not is_locked(tmp_path)
    lock.acquire(timeout=0)
    lock.release()


def test_a_run_that_says_running_is_interrupted_unless_somebody_holds_its_lock(tmp_path: Path):
    run = RunDirectory(make_run(tmp_path, snapshots=2, status="running"))
    assert run.info.status == "running"
    assert run.status == "interrupted"
    lock = RunLock(run.path)
    lock.acquire(timeout=0)
    assert run.status == "running"
    lock.release()
    assert run.status == "interrupted"


@pytest.mark.parametrize("status", ["finished", "failed", "preempted"])
def test_an_ended_run_keeps_its_status_without_a_lock(tmp_path: Path, status: str):
    assert RunDirectory(make_run(tmp_path, snapshots=2, status=status)).status == status
