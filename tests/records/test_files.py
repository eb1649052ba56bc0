"""A file or directory is there whole or not at all, whatever happens to its writer."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from induction_bump.aside import remove_leftovers
from induction_bump.launch.outcome import explain_failure
from induction_bump.records.files import directory_that_appears_whole, replace_atomically


def names(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir())


def test_a_file_is_replaced(tmp_path: Path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    replace_atomically(file, lambda p: p.write_text("new"))
    assert file.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_a_writer_that_raises_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    file = tmp_path / "a.txt"
    file.write_text("old")

    def half_way(path: Path) -> None:
        path.write_text("ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        replace_atomically(file, half_way)
    assert file.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def full(path: Path) -> None:
    """As Python says it when an open file cannot grow: without a name."""
    path.write_text("ne")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def in_place(path: Path, write: Callable[[Path], None]) -> None:
    replace_atomically(path, write)


def in_a_directory(path: Path, write: Callable[[Path], None]) -> None:
    with directory_that_appears_whole(path) as aside:
        write(aside / "inner")


@pytest.mark.parametrize("replace", [in_place, in_a_directory])
def test_a_full_disk_is_told_with_the_place_it_was_met_at(tmp_path: Path, replace: Callable):
    with pytest.raises(OSError, match=r"No space left on device: '.*/target'$") as caught:
        replace(tmp_path / "target", full)
    assert explain_failure(caught.value) == f"disk full: cannot write {tmp_path / 'target'}"


@pytest.mark.parametrize("replace", [in_place, in_a_directory])
def test_an_error_that_names_its_file_keeps_its_name(tmp_path: Path, replace: Callable):
    def write(path: Path) -> None:
        (path.parent / "nowhere" / "file").write_text("x")

    with pytest.raises(FileNotFoundError) as caught:
        replace(tmp_path / "target", write)
    assert caught.value.filename.endswith("nowhere/file")


@pytest.mark.parametrize("replace", [in_place, in_a_directory])
def test_an_error_about_what_lies_aside_is_about_its_place(tmp_path: Path, replace: Callable):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as caught:
        replace(tmp_path / "file" / "target", lambda path: path.write_text("x"))
    assert caught.value.filename == str(tmp_path / "file" / "target")


def test_an_error_inside_a_directory_that_lies_aside_is_about_its_place(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught:
        in_a_directory(tmp_path / "target", lambda path: (path / "file").write_text("x"))
    assert caught.value.filename == str(tmp_path / "target" / "inner" / "file")


def test_the_old_file_stays_readable_while_the_new_one_is_written(tmp_path: Path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    seen = []

    def write(path: Path) -> None:
        path.write_text("new")
        seen.append(file.read_text())

    replace_atomically(file, write)
    assert seen == ["old"]


def test_a_directory_appears_with_all_that_was_put_in_it(tmp_path: Path):
    target = tmp_path / "snapshots" / "00000007"
    with directory_that_appears_whole(target) as aside:
        (aside / "a").write_text("1")
        assert not target.exists()
        (aside / "b").write_text("2")
    assert names(target) == ["a", "b"]
    assert names(target.parent) == ["00000007"]


def test_a_directory_whose_writer_raises_never_appears(tmp_path: Path):
    target = tmp_path / "snapshots" / "00000007"

    def interrupted() -> None:
        with directory_that_appears_whole(target) as aside:
            (aside / "a").write_text("1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(target.parent) == []


@pytest.mark.processes
def test_a_writer_killed_half_way_leaves_no_directory_and_its_leftovers_can_be_removed(tmp_path: Path):
    program = """
import sys, os, signal
from pathlib import Path
from induction_bump.records.files import directory_that_appears_whole
with directory_that_appears_whole(Path(sys.argv[1])) as aside:
    (aside / "a").write_text("1")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    target = tmp_path / "00000007"
    ended = subprocess.run([sys.executable, "-c", program, str(target)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not target.exists()
    assert names(tmp_path) != []
    remove_leftovers(tmp_path)
    assert names(tmp_path) == []
