"""Endings become exit codes, and exceptions one line."""

import errno
import os

import pytest

from induction_bump.config.errors import ConfigError
from induction_bump.launch import note
from induction_bump.launch.outcome import Ending, Outcome, exit_code, explain_failure


@pytest.mark.parametrize(
    ("endings", "code"),
    [
        ([], 0),
        (["finished", "skipped"], 0),
        (["finished", "failed"], 1),
        (["finished", "busy"], 1),
        (["failed", "preempted"], 75),
        (["finished", "waiting"], 75),
        (["refused"], 2),
        (["refused", "failed"], 1),
    ],
)
def test_a_study_that_was_stopped_is_worth_requeueing_and_one_failure_is_a_failure(
    endings: list[Ending], code: int
) -> None:
    assert exit_code(Outcome("", "", ending) for ending in endings) == code


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("model: no"), "model: no"),
        (KeyError("x"), "KeyError: 'x'"),
        (RuntimeError("first\nsecond"), "RuntimeError: first"),
        (MemoryError(), "MemoryError"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "disk full: cannot write"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/r/run.json"), "/r/run.json: Permission denied"),
    ],
)
def test_an_exception_becomes_one_line(error: Exception, line: str) -> None:
    assert explain_failure(error) == line


def test_the_first_note_counts(tmp_path: os.PathLike[str]) -> None:
    from pathlib import Path

    directory = Path(tmp_path)
    assert note.find(directory) is None
    note.Note("first", "refused").leave(directory)
    note.Note("second").leave(directory)
    assert note.find(directory) == note.Note("first", "refused")
    assert len(list(directory.iterdir())) == 1
