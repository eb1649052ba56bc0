"""Which runs of a study are known to be finished, without reading their files again."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from induction_bump.data.cache import read_json, write_json
from induction_bump.launch.plan import REMEMBERED

_FILE = "finished.json"
_STAMPED = ("run.json", "config.yaml")


class Finished:
    """Run ids with the stamps of the files that were read; a file that changed since is read again."""

    def __init__(self, directory: Path) -> None:
        """`directory` is the study's metadata."""
        self._file = directory / REMEMBERED / _FILE
        self._known = self._read()
        self._new: dict[str, list[Any]] = {}

    def holds(self, run_id: str, path: Path) -> bool:
        """Whether the run at `path` was finished, and its files are those that said so."""
        known = self._known.get(run_id)
        return known is not None and known == _stamp(path)

    def add(self, runs: Iterable[tuple[str, Path]]) -> None:
        """Remember runs that are finished now."""
        for run_id, path in runs:
            if stamp := _stamp(path):
                self._new[run_id] = stamp

    def write(self) -> None:
        """Keep them, beside what other launchers have found meanwhile."""
        if not self._new:
            return
        self._known = {**self._read(), **self._new}
        self._new = {}
        write_json(self._file, self._known)

    def _read(self) -> dict[str, list[Any]]:
        return read_json(self._file) or {}


def _stamp(path: Path) -> list[Any] | None:
    """The directory's name with size and times of each file; the change time too, which no tool sets back."""
    stamp: list[Any] = [path.name]
    for name in _STAMPED:
        try:
            found = (path / name).stat()
        except OSError:
            return None
        stamp.append([found.st_size, found.st_mtime_ns, found.st_ctime_ns])
    return stamp
