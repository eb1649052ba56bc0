"""A stop is asked for by signal, file or call, and noticed at the next question."""

import os
import signal
import threading
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
