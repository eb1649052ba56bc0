"""What a companion tells reaches the terminal and the outcome, and one that is killed is told of in one line."""

import subprocess
import time
from pathlib import Path

import pytest

from induction_bump.launch import accompanied
from induction_bump.launch.accompanied import Companion
from induction_bump.records.directory import RunDirectory
from tests.tracking.growing import GrowingRun

pytestmark = pytest.mark.processes


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run that is mirrored and drawn."""
    return GrowingRun(tmp_path, tracking={"mode": "offline"}).run


def companion(run: RunDirectory, does: str) -> Companion:
    """One that does what a shell is told to."""
    return Companion(run, subprocess.Popen(["sh", "-c", does], stdout=subprocess.PIPE))


def test_what_is_to_be_known_at_once_is_on_the_terminal_at_once(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = companion(run, "echo now W\\&B: no route; exec sleep 60")
    deadline, said = time.monotonic() + 30, ""
    while not said and time.monotonic() < deadline:
        time.sleep(0.02)
        said = capsys.readouterr().err
    beside.process.terminate()
    beside.end()
    assert said == f"{run.path.name}: W&B: no route\n"


def test_what_is_left_undone_is_kept_for_the_end(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    beside = companion(run, "echo left one thing; echo left another")
    beside.end()
    assert beside.left == ["one thing", "another"]
    assert capsys.readouterr().err == ""


def test_what_a_library_prints_there_is_in_the_log_as_it_is_and_nowhere_else(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    accompanied.log_of(run.path).parent.mkdir()
    beside = companion(run, "echo Loading data now; echo now; echo nowhere near; echo left one; echo leftovers")
    beside.end()
    assert beside.left == ["one"]
    assert capsys.readouterr().err == ""
    log = accompanied.log_of(run.path).read_text(encoding="utf-8")
    assert log == "Loading data now\nnow\nnowhere near\nleftovers\n"


@pytest.mark.parametrize(
    ("does", "how"),
    [("kill -9 $$", "was ended by signal 9"), ("exit 1", "failed, see {log}")],
    ids=["killed", "failed"],
)
def test_one_that_ends_before_its_work_is_done_is_one_line_with_what_makes_it_good(
    run: RunDirectory, capfd: pytest.CaptureFixture[str], does: str, how: str
) -> None:
    beside = companion(run, does)
    beside.end()
    said = how.format(log=accompanied.log_of(run.path))
    assert beside.left == [
        f"the companion process {said}; `bump report {run.path}` draws it; `bump track {run.path}` mirrors the rest"
    ]
    assert capfd.readouterr() == ("", "")


def test_one_that_keeps_to_no_time_is_ended(run: RunDirectory) -> None:
    beside = companion(run, "exec sleep 60")
    beside.end(0.1)
    assert beside.process.returncode == -9
    assert beside.left[0].startswith("the companion process took more than 0 s and was ended; `bump report ")


def test_only_the_commands_for_what_was_wanted_are_named(tmp_path: Path) -> None:
    run = GrowingRun(tmp_path, tracking={"mode": "none"}).run
    beside = companion(run, "kill -9 $$")
    beside.end()
    assert beside.left == [f"the companion process was ended by signal 9; `bump report {run.path}` draws it"]
