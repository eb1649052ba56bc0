"""What is being written has a place of its own, which nobody takes for a leftover while its writer may live."""

import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from induction_bump import aside
from induction_bump.aside import aside_of, remove_leftovers
from induction_bump.data.building import whole_or_not_at_all
from induction_bump.processes import is_dead, running_since
from induction_bump.records.files import directory_that_appears_whole, remove_whole, replace_atomically
from tests.leftovers import left_by_a_dead_writer

ROUNDS = 200


def replaced(path: Path, text: str) -> None:
    replace_atomically(path, lambda place: place.write_text(text))


def cached(path: Path, text: str) -> None:
    with whole_or_not_at_all(path) as place:
        place.write_text(text)


def in_directory(path: Path, text: str) -> None:
    """Each its own; what is made and removed meanwhile lies beside."""
    target = path.with_name(text[:1])
    with directory_that_appears_whole(target) as place:
        (place / "inner").write_text(text)
    remove_whole(target)


@pytest.mark.parametrize("write", [replaced, cached, in_directory])
def test_two_that_write_at_once_do_not_disturb_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, str], None]
) -> None:
    """Threads have one pid, as the first processes of two containers may have."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    texts, failed = ("a" * 5000, "b" * 5000), []

    def work(text: str) -> None:
        for _ in range(ROUNDS):
            try:
                write(tmp_path / "file", text)
                remove_leftovers(tmp_path)
            except Exception as error:
                failed.append(error)

    threads = [threading.Thread(target=work, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [path.name for path in tmp_path.iterdir()] == ([] if write is in_directory else ["file"])
    assert write is in_directory or (tmp_path / "file").read_text() in texts


def test_the_name_of_what_is_written_may_be_as_long_as_any(tmp_path: Path) -> None:
    replaced(tmp_path / ("x" * 255), "whole")
    assert (tmp_path / ("x" * 255)).read_text() == "whole"


def test_only_what_a_dead_writer_of_this_machine_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    mine = aside_of(path)
    dead_file, dead_directory = left_by_a_dead_writer(path), left_by_a_dead_writer(path)
    table, writer = mine.name.split(".")[-4:-2]
    pid, since = writer.split("-")
    stay = [
        mine,
        mine.with_name(mine.name.replace(writer, f"{os.getppid()}-{running_since(os.getppid())}")),
        dead_file.with_name(dead_file.name.replace(table, "0" * 12)),  # of another machine, or a container
        tmp_path / ".a.json.12.tmp",  # of a version that named nothing but the pid
        tmp_path / ".hidden",
        path,
    ]
    for each in (*stay, dead_file, mine.with_name(mine.name.replace(writer, f"{pid}-{int(since) - 1}"))):
        each.touch()
    dead_directory.mkdir()
    (dead_directory / "inner").touch()
    remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == set(stay)


def test_what_nobody_can_tell_to_be_left_is_told_of_once_it_is_old(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = aside_of(tmp_path / "a.json")
    elsewhere = mine.with_name(mine.name.replace(mine.name.split(".")[-4], "0" * 12))
    for path in (mine, elsewhere):
        path.touch()
    with caplog.at_level(logging.WARNING):
        remove_leftovers(tmp_path)
        assert not caplog.records
        for path in (mine, elsewhere):
            os.utime(path, (0, 0))
        remove_leftovers(tmp_path)
        remove_leftovers(tmp_path)
    host = socket.gethostname()
    told = f"{elsewhere} was left by a writer on {host}; remove it where that no longer runs"
    assert [record.getMessage() for record in caplog.records] == [told]


def test_a_pid_that_no_system_has_is_nobodys() -> None:
    assert is_dead(2**40, 0)


def test_a_process_is_dead_once_it_has_ended_reaped_or_not() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    since = running_since(process.pid)
    assert since is not None
    assert not is_dead(process.pid, since)
    assert is_dead(process.pid, since - 1)  # another had the pid before
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(process.pid, since)
    process.communicate()
    assert is_dead(process.pid, since)


@pytest.mark.skipif(not shutil.which("unshare") or os.geteuid() != 0, reason="needs a PID namespace of its own")
def test_another_container_has_another_table_of_processes(tmp_path: Path) -> None:
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c"]
    program = "import pathlib, induction_bump.aside as a; print(a.aside_of(pathlib.Path('x')).name)"
    said = subprocess.run([*command, program], capture_output=True, text=True, check=True).stdout.strip()
    host, table, writer = said.split(".")[-5:-2]
    assert writer.startswith("1-")
    assert host == aside._host()
    assert table != aside._table()
