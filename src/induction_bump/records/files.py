"""Writing so that a file or directory is there whole or not at all, whatever is killed in between."""

import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def _named_in_errors(path: Path, aside: Path) -> Generator[None, None, None]:
    """Let an error of the system be about `path` where it does not say which file it is about, or names `aside`."""
    try:
        yield
    except OSError as error:
        # what a write to an open file raises on a full disk knows no name
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        elif isinstance(error.filename, str) and (name := Path(error.filename)).is_relative_to(aside):
            error.filename = str(path / name.relative_to(aside))
        raise


def sync(path: Path) -> None:
    """Flush a file or a directory's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with _named_in_errors(path, path):
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
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with _named_in_errors(path, aside):
        try:
            write(aside)
            sync(aside)
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        sync(path.parent)


@contextmanager
def directory_that_appears_whole(path: Path) -> Generator[Path, None, None]:
    """Give a directory beside `path` to fill; it takes the name `path` when the block ends without an error.

    An OSError of the block names `path` where it names nothing, or the directory beside it.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    with _named_in_errors(path, aside):
        aside.mkdir(parents=True)
        try:
            yield aside
            for entry in aside.iterdir():
                sync(entry)
            sync(aside)
            aside.rename(path)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        sync(path.parent)


def remove_whole(directory: Path) -> None:
    """Delete a directory so that it is never there in part: what is being deleted has another name."""
    aside = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    directory.rename(aside)
    sync(directory.parent)
    shutil.rmtree(aside)


def remove_leftovers(directory: Path) -> None:
    """Delete what a killed writer left aside in `directory`."""
    for entry in directory.glob(".*.tmp"):
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def numbered(directory: Path) -> list[tuple[int, Path]]:
    """What is named after a step in `directory`, in order of steps; a copy that somebody put aside there is not."""
    there = directory.iterdir() if directory.is_dir() else ()
    found = ((int(entry.name), entry) for entry in there if entry.name.isascii() and entry.name.isdecimal())
    return sorted((step, entry) for step, entry in found if entry.name == name_of(step))


def name_of(step: int) -> str:
    """The name of the directory that belongs to a step."""
    return f"{step:08d}"
