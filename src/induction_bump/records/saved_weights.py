"""The weights of snapshots on disk, known by their content: `run.json` holds the sha256 of each file of them."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path

from induction_bump.records.directory import WEIGHTS, RunDirectory, Snapshot, sha256_of
from induction_bump.records.files import name_of
from induction_bump.records.schema import RecordsError

_END_BYTES = 4096


def with_weights(run: RunDirectory) -> list[Snapshot]:
    """The snapshots whose weights are there, in order of steps."""
    return [snapshot for snapshot in run.snapshots() if (snapshot.path / WEIGHTS).is_file()]


def weights_at(run: RunDirectory, step: int) -> Path:
    """The file with the weights of a snapshot, which whoever reads them asks for here.

    Raises RecordsError where its content is not what was saved; of runs without hashes that cannot be told.
    """
    path = run.path / "snapshots" / name_of(step) / WEIGHTS
    saved = run.info.weights.get(step)
    if saved is not None and path.is_file() and sha256_of(path) != saved:
        raise RecordsError(f"{path}: these are not the weights that were saved there (their sha256 is another)")
    return path


def doubts(run: RunDirectory, measured: Collection[int]) -> list[str]:
    """What makes one doubt the weights of a run, a clause each: equal ones at several steps, and missing ones.

    Of a run without hashes, weights are read where they may equal those at the steps that were `measured` just now.
    """
    there = with_weights(run)
    saved = run.info.weights
    hashes = {snapshot.step: saved[snapshot.step] for snapshot in there if snapshot.step in saved}
    if not hashes.keys() >= set(measured):
        alike: dict[object, list[Snapshot]] = defaultdict(list)
        for snapshot in there:
            alike[_end(snapshot.path / WEIGHTS)].append(snapshot)
        for group in alike.values():
            if len(group) > 1 and any(snapshot.step in measured for snapshot in group):
                hashes |= {s.step: sha256_of(s.path / WEIGHTS) for s in group if s.step not in saved}
    steps: dict[str, list[int]] = defaultdict(list)
    for step, digest in sorted(hashes.items()):
        steps[digest].append(step)
    found = [f"the weights at steps {_listed(equal)} are the same" for equal in steps.values() if len(equal) > 1]
    if missing := sorted(saved.keys() - {snapshot.step for snapshot in there}):
        found.append(f"the weights of step{'s' * (len(missing) > 1)} {_listed(missing)} are missing")
    return found


def _end(path: Path) -> tuple[int, bytes]:
    """The size of a file and its last bytes, which tell most files of different weights apart."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _END_BYTES))
        return size, file.read()


def _listed(steps: Iterable[int]) -> str:
    *first, last = map(str, steps)
    return f"{', '.join(first)} and {last}" if first else last
