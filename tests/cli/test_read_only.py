"""Records that cannot be written beside are read all the same: what is found is printed, and written where asked."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from induction_bump.cli import main as cli
from induction_bump.locate import tables
from induction_bump.records import files
from induction_bump.report import page
from tests.analysis.script import ANALYSIS
from tests.records.make import make_run


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("records")
    for seed in range(2):
        make_run(root, seed=seed, name="ab"[seed], study="s", snapshots=10)
    return root / "s"


@pytest.fixture
def study(records: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study in which every file that is made is refused, as on a read-only file system."""
    study = shutil.copytree(records, directory / "s")

    def refusing(path: Path, write: Callable[[Path], object]) -> None:
        if path.absolute().is_relative_to(study):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        files.replace_atomically(path, write)

    for writer in (tables, page):
        monkeypatch.setattr(writer, "replace_atomically", refusing)
    return study


def content(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def test_locating_prints_its_table_and_says_that_nothing_was_written(study: Path, capfd: pytest.CaptureFixture[str]):
    before = content(study)
    assert cli.main(["locate", "s"]) == 1
    said = capfd.readouterr()
    assert "prefix_matching " in said.out
    assert said.out.count("Bump located in the") == 1
    assert said.err == (
        "bump: read-only file system: cannot write s/phase_changes.parquet; what is printed is not written, --out DIR "
        "writes it elsewhere\n"
    )
    assert content(study) == before


def test_locating_writes_where_it_is_told_to(study: Path, directory: Path, capfd: pytest.CaptureFixture[str]):
    before = content(study)
    assert cli.main(["locate", "s", "--out", "else/where"]) == 0
    assert capfd.readouterr().err == ""
    assert {"phase_changes.csv", "changes.parquet"} <= content(directory / "else/where")
    assert content(study) == before


def test_a_page_that_cannot_be_written_is_told_in_one_line_after_what_it_begins_with(
    study: Path, capfd: pytest.CaptureFixture[str]
):
    before = content(study)
    assert cli.main(["report", "s"]) == 1
    said = capfd.readouterr()
    assert said.out.startswith("Bump located in the ")
    [line] = said.err.splitlines()
    assert line == "bump: read-only file system: cannot write s/report.html; --out DIR|FILE writes elsewhere"
    assert content(study) == before


def test_pages_go_where_they_are_told_to_and_find_each_other(
    study: Path, directory: Path, capfd: pytest.CaptureFixture[str]
):
    before, (run, _) = content(study), sorted(path.name for path in study.iterdir())
    assert cli.main(["report", "s", "--out", "pages"]) == 0
    assert capfd.readouterr().out == f"{directory}/pages/report.html\n"
    assert f'href="{run}/report.html"' in (directory / "pages/report.html").read_text("utf-8")
    assert (directory / f"pages/{run}/report.html").is_file()
    assert cli.main(["report", "s", "--out", "one.html"]) == 0
    assert f'href="{run}/report.html"' not in (directory / "one.html").read_text("utf-8")
    assert cli.main(["report", f"s/{run}", "--out", "of-a-run"]) == 0
    assert f"{directory}/of-a-run/report.html\n" in capfd.readouterr().out
    assert 'href="../report.html"' not in (directory / "of-a-run/report.html").read_text("utf-8")
    assert content(study) == before


def test_a_file_system_that_is_read_only_is_read(records: Path, directory: Path):
    program = f"""
import runpy, sys
from induction_bump.cli.main import main
print(main(["locate", "s"]), main(["report", "s"]), main(["status", "s"]), main(["report", "s", "--out", "pages"]))
sys.path.insert(0, {str(ANALYSIS)!r})
sys.argv = ["icl_and_heads.py", "s"]
runpy.run_path({str(ANALYSIS / "icl_and_heads.py")!r}, run_name="__main__")
"""
    shutil.copytree(records, directory / "s")
    mounted = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mount = "mount --bind s s && mount -o remount,bind,ro s"
    if not shutil.which("unshare") or subprocess.run([*mounted, mount], capture_output=True, check=False).returncode:
        pytest.skip("a directory cannot be mounted read-only here")
    before = content(directory / "s")
    ended = subprocess.run(
        [*mounted, f'{mount} && exec "$0" "$@"', sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert "1 1 0 0" in ended.stdout
    assert [line.split(": ")[0] for line in ended.stderr.splitlines()] == ["bump", "bump", "icl_and_heads.py"]
    assert "Traceback" not in ended.stderr
    assert content(directory / "s") == before
    assert (directory / "pages/report.html").is_file()
