"""A stop is asked for by signal, file or call, and noticed at the next question."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from induction_bump.launch import stop


def test_nothing_is_requested_at_first() -> None:
    assert not stop.requested()


def test_a_worker_sees_its_launchers_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(stop.DIRECTORY, str(tmp_path))
    assert not stop.requested()
    (tmp_path / "stop").touch()
    assert stop.requested()


def test_a_request_reaches_the_workers(tmp_path: Path) -> None:
    stop.request(tmp_path)
    assert (tmp_path / "stop").exists()
    assert stop.requested()


@pytest.mark.parametrize("number", stop.SIGNALS)
def test_each_signal_asks_to_stop_and_the_old_handler_comes_back(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop.taking_signals(tmp_path, at_once=lambda: pytest.fail("too early")):
        os.kill(os.getpid(), number)
        assert stop.requested()
    assert signal.getsignal(number) == before
    assert (tmp_path / "stop").exists()


def test_only_a_second_ctrl_c_ends_everything_at_once(tmp_path: Path) -> None:
    ended: list[bool] = []
    with stop.taking_signals(tmp_path, at_once=lambda: ended.append(True)):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert ended == []
        os.kill(os.getpid(), signal.SIGINT)
    assert ended == [True]


def test_other_threads_leave_signals_alone(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def look() -> None:
        with stop.taking_signals(tmp_path, at_once=lambda: None):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_cell_sees_the_file_of_its_whole_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(stop.SWEEP, str(tmp_path))
    assert not stop.requested()
    (tmp_path / "stop").touch()
    assert stop.requested()


def test_a_request_everywhere_reaches_the_workers_of_every_launcher_in_this_process(tmp_path: Path) -> None:
    directories = [tmp_path / name for name in ("a", "b", "over")]
    for directory in directories:
        directory.mkdir()
    with stop.taking_signals(directories[2], at_once=lambda: None):
        pass
    with (
        stop.taking_signals(directories[0], at_once=lambda: None),
        stop.taking_signals(directories[1], at_once=lambda: None),
    ):
        stop.request_everywhere()
    assert [(directory / "stop").exists() for directory in directories] == [True, True, False]


def test_signals_that_were_left_to_another_package_keep_its_handlers(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    stop.leave_signals()
    with stop.taking_signals(tmp_path, at_once=lambda: None):
        assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("number", stop.SIGNALS)
def test_signals_are_taken_apart_while_the_main_thread_holds_them_back(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with stop.taking_signals_apart(tmp_path, at_once=lambda: pytest.fail("too early")):
        assert number in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        os.kill(os.getpid(), number)
        deadline = time.monotonic() + 10
        while not stop.requested() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert stop.requested()
    assert (tmp_path / "stop").exists()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_what_is_started_meanwhile_survives_signals_until_it_ignores_them(tmp_path: Path) -> None:
    program = "import sys; print('there', flush=True); sys.stdin.read()"
    with stop.held_back():
        process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    for number in (*stop.SIGNALS, signal.SIGUSR2):
        process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 0


SUSPENDED = """
import sys
from pathlib import Path
from induction_bump.launch import stop
with stop.taking_signals_apart(Path(sys.argv[1]), at_once=lambda: None):
    print("there", flush=True)
    sys.stdin.read()
print(stop.requested())
"""


def test_to_be_suspended_for_a_while_is_no_request(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SUSPENDED, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        for _ in range(3):
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.5)
            process.send_signal(signal.SIGCONT)
            time.sleep(0.3)
        told, _ = process.communicate(timeout=30)
    assert told == "False\n"
    assert not (tmp_path / "stop").exists()
