"""Writing so that a file or directory is there whole or not at all, whatever is killed in between."""

import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from induction_bump.aside import aside_of, named_in_errors, remove, replacing


def sync(path: Path) -> None:
    """Flush a file or a directory's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with named_in_errors(path, path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def made(directory: Path) -> Path:
    """Make a directory where there is none, so that it survives a power cut; returns it."""
    if not directory.is_dir():
        directory.mkdir(parents=True, exist_ok=True)
        sync(directory.parent)
    return directory


def replace_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, then rename it into place; the old one stays until then.

    An OSError names `path` where it names nothing, or the file beside it.
    """
    with replacing(path) as aside:
        write(aside)
    sync(path.parent)


@contextmanager
def directory_that_appears_whole(path: Path) -> Generator[Path, None, None]:
    """Give a directory beside `path` to fill; it takes the name `path` when the block ends without an error.

    An OSError of the block names `path` where it names nothing, or the directory beside it.
    """
    aside = aside_of(path)
    with named_in_errors(path, aside):
        aside.mkdir(parents=True)
        try:
            yield aside
            for entry in aside.iterdir():
                sync(entry)
            sync(aside)
            aside.rename(path)
        except BaseException:
            remove(aside)
            raise
        sync(path.parent)


def remove_whole(directory: Path) -> None:
    """Delete a directory so that it is never there in part: what is being deleted has another name."""
    aside = aside_of(directory)
    directory.rename(aside)
    sync(directory.parent)
    shutil.rmtree(aside)


def numbered(directory: Path) -> list[tuple[int, Path]]:
    """What is named after a step in `directory`, in order of steps; a copy that somebody put aside there is not."""
    there = directory.iterdir() if directory.is_dir() else ()
    found = ((int(entry.name), entry) for entry in there if entry.name.isascii() and entry.name.isdecimal())
    return sorted((step, entry) for step, entry in found if entry.name == name_of(step))


def name_of(step: int) -> str:
    """The name of the directory that belongs to a step."""
    return f"{step:08d}"
