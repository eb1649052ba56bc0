"""What a terminal cannot show comes as ASCII, from every command and every process of a run."""

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from induction_bump.cli import main as cli
from induction_bump.launch import companion, pool, worker
from induction_bump.streams import show_what_can_be_shown
from tests.records.make import make_run


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Callable[[], str]]:
    """Streams of an encoding; what it gives reads what was written to both."""

    def made(encoding: str) -> Callable[[], str]:
        written = io.BytesIO()
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, io.TextIOWrapper(written, encoding=encoding, write_through=True))
        return lambda: written.getvalue().decode(encoding)

    return made


def test_what_ascii_lacks_is_written_in_its_place(terminal: Callable[[str], Callable[[], str]]):
    said = terminal("ascii")
    show_what_can_be_shown()
    print("0.02 → 0.84, 2×3, −1, 1…2, ±0.1, ≥ ½ ln 200, 3–4: naïve 🙂 \udc80")
    print("0.1 ± 0.2 → 0.3", file=sys.stderr)
    assert said() == "0.02 -> 0.84, 2x3, -1, 1...2, +-0.1, >= 1/2 ln 200, 3-4: na?ve ? ?\n0.1 +- 0.2 -> 0.3\n"


def test_what_an_encoding_has_stays(terminal: Callable[[str], Callable[[], str]]):
    said = terminal("latin-1")
    show_what_can_be_shown()
    print("2×3 ± ½ → naïve")
    assert said() == "2×3 ± ½ -> naïve\n"


def test_a_run_is_located_on_a_terminal_of_ascii(tmp_path: Path, terminal: Callable[[str], Callable[[], str]]):
    run = make_run(tmp_path, snapshots=12)
    said = terminal("ascii")
    assert cli.main(["locate", str(run)]) == 0
    assert re.search(r"L1H3 0\.\d\d -> 0\.8\d", said())
    assert cli.main(["locate", "nothing/→"]) == 2
    assert said().endswith("bump: nothing/->: no such directory; give a run or a study, such as runs/quickstart\n")


@pytest.mark.parametrize("begin", [worker.main, lambda: companion.main([]), lambda: pool._begin("")])
def test_every_process_of_a_run_begins_with_it(
    begin: Callable[[], object], terminal: Callable[[str], Callable[[], str]]
):
    said = terminal("ascii")
    with pytest.raises((KeyError, SystemExit, ValueError)):  # nobody has told it what to work on
        begin()
    print("1 → 2")
    assert said().endswith("1 -> 2\n")
