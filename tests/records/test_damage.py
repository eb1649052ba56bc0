"""A study of which one run is damaged or gone: every reader says so in a line, and reads the others."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from induction_bump.cli import main as cli
from induction_bump.locate import tables
from induction_bump.locate.run import locate
from induction_bump.records.damage import RecordsWarning, said_once
from induction_bump.records.load import load
from induction_bump.records.schema import RecordsError
from tests.records.make import make_run


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


OF_A_RUN: dict[str, Callable[[Path], object]] = {
    "config.yaml": lambda run: (run / "config.yaml").write_text("model: ["),
    "run.json": lambda run: cut(run / "run.json"),
    "tables/scalars.parquet": lambda run: cut(run / "tables/scalars.parquet"),
    "tables/paths.parquet": lambda run: cut(run / "tables/paths.parquet"),
    "tables/heads-measured0000.parquet": lambda run: (run / "tables/heads-measured0000.parquet").touch(),
}
"""A damaged file by its name, and what damages it."""


@pytest.fixture(scope="module")
def located(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate("abc"):
        make_run(root, study="s", name=name, run_id=f"0{name}", seed=seed, snapshots=10, expensive_every=3)
    locate(root / "s", changes=False)
    return root / "s"


@pytest.fixture
def study(located: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(located, tmp_path / "s")
    monkeypatch.chdir(tmp_path)
    return Path("s")


@pytest.mark.parametrize("file", OF_A_RUN)
def test_a_damaged_run_is_named_and_the_others_are_loaded(study: Path, file: str) -> None:
    OF_A_RUN[file](study / "b-0b")
    with pytest.warns(RecordsWarning, match=f"^s/b-0b/{file}: .*; the run is left out$"):
        records = load(study)
    assert records.runs["run"].tolist() == ["a-0a", "c-0c"]
    assert set(records.heads["run_id"]) == set(records.read("paths")["run_id"]) == {"0a", "0c"}
    with pytest.warns(RecordsWarning, match=r"^s: located with b-0b, which cannot be read here; `bump locate` writes"):
        assert set(records.phase_changes["run_id"]) == {"0a", "0c"}


@pytest.mark.parametrize("file", ["config.yaml", "tables/paths.parquet"])
def test_a_damaged_run_keeps_no_command_from_the_others(
    study: Path, file: str, capfd: pytest.CaptureFixture[str]
) -> None:
    OF_A_RUN[file](study / "b-0b")
    assert cli.main(["report", "s"]) == 2
    said = capfd.readouterr()
    assert said.out.endswith("s/report.html\n")
    assert f"bump: b-0b: s/b-0b/{file}: " in said.err
    assert "Traceback" not in said.err
    assert len(said.err.splitlines()) == 2
    assert cli.main(["track", "s", "--mode", "offline"]) == 1
    said = capfd.readouterr()
    assert [line.split(": ")[0] for line in said.out.splitlines() if "W&B id" in line] == ["a-0a", "c-0c"]
    assert f"bump: b-0b: s/b-0b/{file}: " in said.err
    assert cli.main(["status", "s"]) == 0
    shown = capfd.readouterr().out
    assert all(name in shown for name in ("a-0a", "b-0b", "c-0c"))


def test_a_run_that_is_gone_is_told_of_once_and_the_others_are_reported(
    study: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(study / "b-0b")
    assert cli.main(["report", "s"]) == 0
    assert capfd.readouterr().err == (
        "bump: s: located with b-0b, which cannot be read here; `bump locate` writes it anew without\n"
    )
    locate(study, changes=False)
    assert cli.main(["report", "s"]) == 0
    assert capfd.readouterr().err == ""


def test_what_was_located_in_a_study_is_read_from_its_runs_where_the_study_s_own_is_damaged(
    study: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = load(study).phase_changes
    cut(study / "phase_changes.parquet")
    with pytest.warns(RecordsWarning, match=r"^s/phase_changes.parquet: cannot be read, `bump locate` writes it anew"):
        assert load(study).phase_changes.equals(whole)
    assert cli.main(["report", "s"]) == 0
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("bump: s/phase_changes.parquet: cannot be read, `bump locate` writes it anew: ")
    page = (study / "report.html").read_text("utf-8")
    assert "not located yet" not in page


SPREAD = {
    **{"cell": "ss", "event": "icl", "runs": 3, "found": 3, "undetermined": 0, "median": 5e5, "rule": "over 3 seeds"},
    **{"median_low": 4e5, "median_high": 6e5, "cv": 0.1, "cv_low": 0.05, "cv_high": 0.2},
}


def told_of_cells(study: Path, capfd: pytest.CaptureFixture[str]) -> list[str]:
    """What the terminal says of a study whose spread is left out of the page and of what is loaded."""
    assert cli.main(["report", str(study)]) == 0
    assert "Time over seeds" not in (study / "report.html").read_text("utf-8")
    said = capfd.readouterr().err.splitlines()
    with pytest.warns(RecordsWarning) as warned:
        assert load(study).cells.empty
    assert [f"bump: {each.message}" for each in warned] == said
    return said


def test_a_spread_over_the_runs_that_are_there_is_told(study: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tables.write(study, "cells", tables.cells([SPREAD]))
    assert load(study).cells["runs"].tolist() == [3]
    assert cli.main(["report", "s"]) == 0
    assert capfd.readouterr().err == ""
    assert "Time over seeds" in (study / "report.html").read_text("utf-8")


def test_a_spread_over_a_run_that_is_gone_is_left_out(study: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tables.write(study, "cells", tables.cells([SPREAD]))
    shutil.rmtree(study / "b-0b")
    [line] = told_of_cells(study, capfd)
    assert line == "bump: s: located with b-0b, which cannot be read here; `bump locate` writes it anew without"


def test_a_spread_without_a_run_that_is_there_is_left_out(study: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tables.write(study, "cells", tables.cells([SPREAD]))
    make_run(Path(), study="s", name="d", run_id="0d", seed=3, snapshots=10)
    [line] = told_of_cells(study, capfd)
    assert line == "bump: s: located without d-0d; cells are left out, `bump locate` makes them anew"


def test_a_damaged_table_of_spreads_leaves_a_page_without_it(study: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (study / "cells.parquet").write_bytes(b"PAR1 and no more")
    assert cli.main(["report", "s"]) == 0
    assert "cells.parquet: cannot be read" in capfd.readouterr().err


def test_where_nothing_can_be_read_loading_is_refused(study: Path) -> None:
    for run in ("a-0a", "b-0b", "c-0c"):
        cut(study / run / "tables/heads.parquet")
    with pytest.raises(RecordsError, match=r"^s/a-0a/tables/heads.parquet: cut short"):
        load(study)


def test_other_warnings_are_shown_as_python_shows_them(recwarn: pytest.WarningsRecorder) -> None:
    said: list[str] = []
    warnings.simplefilter("always")
    with said_once(said.append):
        for message in ("one", "one", "two"):
            warnings.warn(message, RecordsWarning, stacklevel=1)
        warnings.warn("other", UserWarning, stacklevel=1)
    assert said == ["one", "two"]
    assert [str(each.message) for each in recwarn] == ["other"]
