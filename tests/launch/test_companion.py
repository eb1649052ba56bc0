"""The companion: it follows a run to its end whatever happens to W&B, to the page, to its parent or to itself."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace

import psutil
import pytest

from induction_bump.launch import accompanied, companion, mirroring
from induction_bump.launch.watch import Watched
from induction_bump.records.directory import RunDirectory
from induction_bump.records.lock import RunLock
from induction_bump.tracking import client
from induction_bump.tracking.mirror import wandb_id
from tests.tracking.growing import GrowingRun, expected_rows, numbers
from tests.tracking.wandb_double import isolate, serving

OFFLINE = {"mode": "offline"}
NO_PAGE = {"live": False}


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(tmp_path, monkeypatch)


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Stands in for the page; gives whether each one written was live."""
    written: list[bool] = []
    page = ModuleType("induction_bump.report.page")
    page.__dict__["write"] = lambda path, *, live: written.append(live)
    monkeypatch.setitem(sys.modules, page.__name__, page)
    monkeypatch.setattr("induction_bump.report.page", page, raising=False)
    return written


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are ended with the test."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def mirrored(path: Path) -> list[dict[str, float]]:
    """Rows in W&B's files, over all its logs in order of time."""
    logs = (path / "tracking" / "wandb").glob(f"offline-run-*/run-{wandb_id(RunDirectory(path).info)}.wandb")
    return [row for log in sorted(logs, key=lambda log: log.stat().st_mtime) for row in client.read_log(log)]


def assert_mirrored(path: Path, rows: list[dict[str, float]]) -> None:
    expected = expected_rows(path)
    assert [row["_step"] for row in rows] == sorted(expected)
    assert all(numbers(row) == expected[int(row["_step"])] for row in rows)


def cursor_of(path: Path) -> dict[str, object]:
    try:
        return json.loads((path / "tracking" / "cursor.json").read_text())
    except FileNotFoundError:
        return {}


def log_of(path: Path) -> str:
    return (path / "tracking" / "companion.log").read_text()


def accompany_in_thread(run: GrowingRun, stop: threading.Event, close_seconds: float = 20.0) -> threading.Thread:
    arguments = (run.run, Watched.this(), stop, print, close_seconds)
    thread = threading.Thread(target=companion.accompany, args=arguments, daemon=True)
    thread.start()
    return thread


@pytest.mark.processes
def test_a_run_is_mirrored_and_drawn_from_beginning_to_end(tmp_path: Path, started: list) -> None:
    run = GrowingRun(tmp_path, tracking=OFFLINE, report={"every_seconds": 0.5})
    process = accompanied.start(run.path)
    assert process
    started.append(process)
    run.grow(0, 40)
    until(lambda: cursor_of(run.path).get("training_step") == 39)
    until((run.path / "report.html").is_file)
    assert psutil.Process(process.pid).nice() == 10
    run.grow(41, run.last_step)
    run.end()
    ended = time.time()
    assert process.wait(60) == 0
    assert_mirrored(run.path, mirrored(run.path))
    assert cursor_of(run.path)["closed"]
    assert (run.path / "report.html").stat().st_mtime >= ended
    assert "WARNING" not in log_of(run.path)
    assert list((tmp_path / "work").iterdir()) == []
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.processes
def test_a_companion_killed_in_the_middle_is_replaced_without_loss(tmp_path: Path, started: list) -> None:
    run = GrowingRun(tmp_path, tracking=OFFLINE, report=NO_PAGE)
    first = accompanied.start(run.path)
    assert first
    started.append(first)
    run.grow(0, 60)
    until(lambda: cursor_of(run.path).get("training_step") == 59)
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = accompanied.start(run.path)
    assert second
    started.append(second)
    run.grow(61, run.last_step)
    run.end()
    assert second.wait(60) == 0
    assert_mirrored(run.path, mirrored(run.path))


@pytest.mark.processes
def test_one_that_starts_while_the_one_before_still_finishes_waits_for_it(tmp_path: Path, started: list) -> None:
    run = GrowingRun(tmp_path, tracking=OFFLINE, report=NO_PAGE)
    run.grow(0, 20)
    before = RunLock(run.path / "tracking")
    before.acquire()
    process = accompanied.start(run.path)
    assert process
    started.append(process)
    until(lambda: "mirroring to W&B" in log_of(run.path))
    time.sleep(2.0)
    assert cursor_of(run.path) == {}
    before.release()
    run.grow(21, run.last_step)
    run.end()
    assert process.wait(60) == 0
    assert_mirrored(run.path, mirrored(run.path))


@pytest.mark.processes
def test_one_that_outlasts_its_patience_asks_again(tmp_path: Path) -> None:
    run = GrowingRun(tmp_path, tracking=OFFLINE, report=NO_PAGE)
    run.grow(0, 20)
    before, stop = RunLock(run.path / "tracking"), threading.Event()
    before.acquire()
    thread = accompany_in_thread(run, stop, close_seconds=2.0)
    time.sleep(3.0)
    before.release()
    until(lambda: cursor_of(run.path).get("training_step") == 19)
    run.grow(21, run.last_step)
    run.end()
    thread.join(30)
    assert_mirrored(run.path, mirrored(run.path))


START_AND_DIE = """
import os, sys, time
from pathlib import Path
from induction_bump.launch import accompanied
process = accompanied.start(Path(sys.argv[1]))
print(process.pid, flush=True)
sys.stdin.read(1)
os.kill(os.getpid(), 9)
"""


@pytest.mark.processes
def test_it_ends_with_its_parent_and_keeps_what_was_committed(tmp_path: Path) -> None:
    run = GrowingRun(tmp_path, tracking=OFFLINE, report=NO_PAGE)
    command = [sys.executable, "-c", START_AND_DIE, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        run.grow(0, 40)
        until(lambda: cursor_of(run.path).get("training_step") == 39)
        parent.communicate("x", timeout=30)
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert run.run.status == "running"
    assert [row["_step"] for row in mirrored(run.path)] == list(range(40))
    assert cursor_of(run.path)["closed"]


@pytest.mark.processes
def test_it_ignores_ctrl_c_and_closes_in_order_on_sigterm(tmp_path: Path, started: list) -> None:
    run = GrowingRun(tmp_path, tracking=OFFLINE, report=NO_PAGE)
    process = accompanied.start(run.path)
    assert process
    started.append(process)
    run.grow(0, 40)
    until(lambda: cursor_of(run.path).get("training_step") == 39)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert cursor_of(run.path)["closed"]


QUICK_TO_CLOSE = """
import sys
from induction_bump.launch import companion
companion.CLOSE_SECONDS = 4.0
companion.main(sys.argv[1:])
"""


@pytest.mark.processes
@pytest.mark.parametrize("outage", ["dead", "silent"])
def test_a_server_that_goes_away_costs_the_end_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list, outage: str
) -> None:
    run = GrowingRun(tmp_path, tracking={"mode": "auto"}, report=NO_PAGE)
    with serving() as server:
        server.log_in(monkeypatch)
        arguments = [str(run.path), "--parent", str(Watched.this())]
        process = subprocess.Popen([sys.executable, "-c", QUICK_TO_CLOSE, *arguments])
        started.append(process)
        run.grow(0, 40)
        until(lambda: cursor_of(run.path).get("training_step") == 39)
        if outage == "silent":
            server.silent.set()
        else:
            server.shut_down()
        run.grow(41, run.last_step)
        run.end()
        ended = time.monotonic()
        assert process.wait(60) == 0
        assert time.monotonic() - ended < 20
    assert not cursor_of(run.path)["closed"]


def test_the_live_page_is_rewritten_when_something_is_new_and_not_too_often(
    tmp_path: Path, pages: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(companion, "_POLL_SECONDS", 0.02)
    moments: list[float] = []

    def write(path: Path, *, live: bool) -> None:
        moments.append(time.monotonic())
        pages.append(live)

    monkeypatch.setattr("induction_bump.report.page.write", write)
    run = GrowingRun(tmp_path, tracking={"mode": "none"}, report={"every_seconds": 0.5})
    thread = accompany_in_thread(run, threading.Event())
    until(lambda: pages)
    time.sleep(0.8)
    assert pages == [True]
    for step in run.snapshot_steps[:4]:
        run.measure(step)
        time.sleep(0.1)
    committed = time.monotonic()
    until(lambda: moments[-1] > committed - 0.1)
    assert all(later - earlier >= 0.5 for earlier, later in pairwise(moments))
    run.end("failed")
    thread.join(20)
    assert set(pages[:-1]) == {True}
    assert pages[-1] is False


def test_a_page_that_cannot_be_written_does_not_stop_the_mirror(
    tmp_path: Path, pages: list[bool], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(path: Path, *, live: bool) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr("induction_bump.report.page.write", fail)
    run = GrowingRun(tmp_path, tracking=OFFLINE, report={"every_seconds": 0.1})
    thread = accompany_in_thread(run, threading.Event())
    run.grow(0, run.last_step)
    run.end()
    thread.join(60)
    assert_mirrored(run.path, mirrored(run.path))
    assert [r.getMessage() for r in caplog.records if "no ink" in r.getMessage()] == [
        "the page could not be written: RuntimeError: no ink"
    ]


def test_a_wandb_that_cannot_be_reached_does_not_stop_the_page(
    tmp_path: Path, pages: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    run = GrowingRun(tmp_path, tracking={"mode": "online"}, report={"every_seconds": 0.1})
    thread = accompany_in_thread(run, threading.Event())
    until(lambda: len(pages) >= 1)
    run.grow(0, run.last_step)
    run.end()
    thread.join(60)
    assert pages[-1] is False
    assert "tracking.mode=online needs a login" in caplog.text
    assert not (run.path / "tracking" / "wandb").exists()


class StandInMirror:
    """W&B, in what it does to the companion."""

    def __init__(self) -> None:
        self.advances: Callable[[], object] = lambda: None
        self.closes: Callable[[], object] = lambda: None
        self.closed = False

    def __call__(self, *_: object, **__: object) -> "StandInMirror":
        return self

    def advance(self) -> None:
        self.advances()

    def close(self) -> None:
        self.closes()
        self.closed = True

    def abandon(self) -> None:
        """Nothing is held."""


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> StandInMirror:
    """Stands in for W&B, and so for its import."""
    stand_in = StandInMirror()
    monkeypatch.setattr("induction_bump.tracking.mirror.Mirror", stand_in)
    monkeypatch.setattr("induction_bump.tracking.destination.choose", lambda options: SimpleNamespace(label="nowhere"))
    monkeypatch.setattr(mirroring, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(mirroring, "_RETRY_SECONDS", (0.02,))
    monkeypatch.setattr(companion, "_POLL_SECONDS", 0.02)
    return stand_in


def refuses() -> None:
    raise ConnectionError("no route to host")


class TestTheEnd:
    """The last page and W&B have their time each, and what they do not come to is told with what makes it good."""

    @pytest.fixture
    def run(self, tmp_path: Path, pages: list[bool]) -> GrowingRun:
        run = GrowingRun(tmp_path, tracking=OFFLINE, report={"every_seconds": 3600})
        run.grow(0, 5)
        return run

    def end(self, run: GrowingRun, said: list[str] | None = None, **seconds: float) -> list[str]:
        """Accompany a run that is over."""
        run.end()
        return companion.accompany(
            run.run, Watched.this(), threading.Event(), (said if said is not None else []).append, **seconds
        )

    def test_wandb_has_its_time_from_when_it_is_asked_whatever_the_page_took(
        self, run: GrowingRun, mirror: StandInMirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("induction_bump.report.page.write", lambda path, *, live: time.sleep(1.0))
        mirror.closes = lambda: time.sleep(0.1)
        assert self.end(run, close_seconds=0.8) == []
        assert mirror.closed

    def test_what_wandb_does_not_finish_in_its_time_is_left(self, run: GrowingRun, mirror: StandInMirror) -> None:
        hangs = threading.Event()
        mirror.closes = hangs.wait
        assert self.end(run, close_seconds=0.5) == [
            f"W&B did not finish within 0 s; `bump track {run.path}` mirrors the rest"
        ]
        hangs.set()

    def test_a_page_that_hangs_is_left_and_wandb_is_asked_all_the_same(
        self, run: GrowingRun, mirror: StandInMirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hangs = threading.Event()
        monkeypatch.setattr("induction_bump.report.page.write", lambda path, *, live: hangs.wait())
        left = self.end(run, close_seconds=30, last_page_seconds=0.5)
        assert left == [f"the last page was not drawn within 0 s; `bump report {run.path}` draws it"]
        assert mirror.closed
        hangs.set()

    def test_phase_changes_are_looked_for_only_once_the_run_is_finished(
        self, run: GrowingRun, mirror: StandInMirror, pages: list[bool], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked: list[bool] = []
        monkeypatch.setattr("induction_bump.locate.run.locate", lambda path, *, changes: looked.append(changes))
        for status, wanted in [("preempted", False), ("failed", False), ("finished", True)]:
            run.run.update(status=status)
            assert companion.accompany(run.run, Watched.this(), threading.Event(), print) == []
            assert (looked.pop(), pages.pop()) == (wanted, False)

    def test_one_that_is_stopped_and_goes_on_holds_nobody_up_for_its_page(
        self, run: GrowingRun, mirror: StandInMirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hangs = threading.Event()
        monkeypatch.setattr("induction_bump.report.page.write", lambda path, *, live: hangs.wait())
        monkeypatch.setattr(companion, "STOPPED_PAGE_SECONDS", 0.5)
        run.end("preempted")
        begun = time.monotonic()
        left = companion.accompany(run.run, Watched.this(), threading.Event(), print, 5.0)
        hangs.set()
        assert time.monotonic() - begun < 5.0
        assert left == [f"the last page was not drawn within 0 s; `bump report {run.path}` draws it"]

    def test_a_page_that_cannot_be_written_is_left(
        self, run: GrowingRun, mirror: StandInMirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("induction_bump.report.page.write", lambda path, *, live: refuses())
        assert self.end(run) == [
            f"the page could not be written: ConnectionError: no route to host; `bump report {run.path}` draws it"
        ]

    def test_a_server_that_cannot_be_reached_is_said_once_at_the_start_and_at_the_end(
        self, run: GrowingRun, mirror: StandInMirror
    ) -> None:
        mirror.advances = refuses
        said: list[str] = []
        thread = threading.Thread(target=lambda: until(lambda: said, 10) or time.sleep(0.2) or run.end())
        thread.start()
        left = companion.accompany(run.run, Watched.this(), threading.Event(), said.append, close_seconds=10)
        thread.join()
        assert said == ["not mirrored to W&B: ConnectionError: no route to host; the run goes on"]
        assert left == [
            f"not mirrored to W&B: ConnectionError: no route to host; `bump track {run.path}` mirrors the rest"
        ]

    def test_a_server_that_comes_back_in_time_leaves_nothing(self, run: GrowingRun, mirror: StandInMirror) -> None:
        outage = iter([refuses, refuses])
        mirror.advances = lambda: next(outage, lambda: None)()
        assert self.end(run, close_seconds=10) == []
        assert mirror.closed


TRACKS_NOTHING = """
import sys, threading
from pathlib import Path
from induction_bump.launch import companion
from induction_bump.launch.watch import Watched
from induction_bump.records.directory import RunDirectory
companion.accompany(RunDirectory(Path(sys.argv[1])), Watched.this(), threading.Event(), print, 1.0)
loaded = {"wandb", "torch", "lightning", "pytorch_lightning"} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.mark.processes
def test_without_tracking_no_wandb_is_imported_and_torch_never_is(tmp_path: Path) -> None:
    run = GrowingRun(tmp_path, tracking={"mode": "none"})
    run.grow(0, run.last_step)
    run.end()
    subprocess.run([sys.executable, "-c", TRACKS_NOTHING, str(run.path)], check=True, timeout=60)
    assert (run.path / "report.html").is_file()
    assert not (run.path / "tracking").exists()


@pytest.mark.processes
def test_mirroring_imports_no_torch(tmp_path: Path) -> None:
    run = GrowingRun(tmp_path, tracking=OFFLINE, report=NO_PAGE)
    run.grow(0, run.last_step)
    run.end()
    script = TRACKS_NOTHING.replace('"wandb", ', "").replace("1.0)", "20.0)")
    subprocess.run([sys.executable, "-c", script, str(run.path)], check=True, timeout=60)
    assert_mirrored(run.path, mirrored(run.path))


def test_there_is_no_companion_where_there_is_nothing_to_do(tmp_path: Path) -> None:
    run = GrowingRun(tmp_path, tracking={"mode": "none"}, report=NO_PAGE)
    assert accompanied.start(run.path) is None
    assert not (run.path / "tracking").exists()


@pytest.mark.processes
def test_the_environment_of_training_is_not_changed(tmp_path: Path, started: list) -> None:
    run = GrowingRun(tmp_path, tracking=OFFLINE, report=NO_PAGE)
    before = dict(os.environ)
    started.append(accompanied.start(run.path))
    assert dict(os.environ) == before
