"""A run's directory: what lies where, and the only functions that write there."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from pydantic import ValidationError

from induction_bump.aside import remove_leftovers
from induction_bump.options import parse
from induction_bump.records.checkpoints import remove_checkpoints_after
from induction_bump.records.files import (
    directory_that_appears_whole,
    made,
    name_of,
    numbered,
    remove_whole,
    replace_atomically,
)
from induction_bump.records.lock import is_locked
from induction_bump.records.schema import (
    PROBES,
    TABLES,
    VERSION,
    RecordsError,
    RunInfo,
    validate_columns,
    validate_info,
    validate_table,
)
from induction_bump.records.tables import ROWS_PER_GROUP, check_whole, read_file, read_rows

_SHOWN = 6
_log = logging.getLogger(__name__)
_WRITTEN_BY_TRAINING = ("snapshots", "training", "tables", "checkpoints")
WEIGHTS = "weights.safetensors"
"""In a snapshot's directory."""
_PROBES = "probes.parquet"
_LOCATED = tuple(f"{table}.{kind}" for table in ("phase_changes", "changes", "cells") for kind in ("parquet", "csv"))

_OF_A_SNAPSHOT, _GATHERED = "snappy", "zstd"
"""Compression. Of a small file zstd saves nothing, and setting it up for each column doubles the time to read it."""

C = TypeVar("C")


@dataclass(frozen=True)
class Snapshot:
    """A committed moment of training."""

    step: int
    tokens: int
    path: Path


class RunDirectory:
    """`runs/<study>/<name>-<run_id>/`.

    Any process may read. Only the holder of the run's lock may call a method that writes.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    # Reading

    @property
    def name(self) -> str:
        """The directory's own name, of `.` and `..` as well."""
        return self.path.name if self.path.name not in ("", "..") else self.path.resolve().name

    @property
    def exists(self) -> bool:
        """Whether a run was ever begun here."""
        return (self.path / "run.json").is_file()

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config. Raises RecordsError where it is missing or unreadable."""
        where = self.path / "config.yaml"
        try:
            values = yaml.load(where.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise RecordsError(f"{where}: {' '.join(str(error).split())}") from None
        if not isinstance(values, dict):
            raise RecordsError(f"{where}: not a mapping")
        return values

    def typed(self, schema: type[C], section: str | None = None) -> C:
        """The config, or a section of it, as the options class that declares it; a missing section is the default one.

        Raises RecordsError, in one line that names file and key, where it is not one.
        """
        where, config = self.path / "config.yaml", self.config
        values = config if section is None else config.get(section) or {}
        if not isinstance(values, dict):
            raise RecordsError(f"{where}: {section} is not a mapping")
        try:
            return parse(schema, values)
        except TypeError as error:  # a date, say, which YAML knows and options do not
            raise RecordsError(f"{where}: {error}") from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, [*([section] if section else []), *first["loc"]]))
            raise RecordsError(
                f"{where}: {key + ': ' if key else ''}{first['msg'].removeprefix('Value error, ')}"
            ) from None

    @property
    def info(self) -> RunInfo:
        """Contents of run.json, read anew. Raises RecordsError where it is missing or invalid."""
        where = self.path / "run.json"
        try:
            values = json.loads(where.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RecordsError(f"{where}: {error}") from None
        return validate_info(values, str(where))

    @property
    def status(self) -> str:
        """running, finished, preempted, failed; or interrupted: it says running and nobody writes it."""
        if self.info.status == "running" and not is_locked(self.path):
            status = self.info.status  # read again: it may have ended between the two looks
            return "interrupted" if status == "running" else status
        return self.info.status

    @property
    def lacks_tables(self) -> bool:
        """Whether the run is finished, and what was gathered then has gone."""
        return not any((self.path / "tables").glob("*.parquet")) and self.exists and self.info.status == "finished"

    def snapshots(self) -> list[Snapshot]:
        """Committed snapshots in order of steps."""
        per_step = self.info.tokens_per_step
        return [Snapshot(step, step * per_step, path) for step, path in numbered(self.path / "snapshots")]

    def table(
        self,
        name: str,
        steps: Collection[int] | None = None,
        equals: Mapping[str, Any] | None = None,
        columns: Collection[str] | None = None,
    ) -> pa.Table:
        """Rows of a table over all that is committed, in order of steps; only some `steps` where those are given.

        `equals` and `columns` choose among rows and columns, as `records.tables.read_rows` says. Raises RecordsError
        for an unknown table or column, or a file that does not have the table's layout.
        """
        return read_rows(name, self._files_of(name, steps), steps, equals, columns)

    def check(self) -> None:
        """Raises RecordsError, in one line that names the file, where a part of the records is missing or cut short."""
        _ = self.config, self.info
        for name in TABLES:
            for file in self._files_of(name):
                check_whole(file)

    def probes(self) -> pa.Table | None:
        """What the examples of the held-out probe are, with the columns of `PROBES`; None where that was not kept.

        Raises RecordsError for a file that does not have its layout.
        """
        where = self.path / _PROBES
        return validate_columns(PROBES, read_file(where), str(where)) if where.is_file() else None

    def _files_of(self, name: str, steps: Collection[int] | None = None) -> list[Path]:
        """The files that a table is read from. Raises RecordsError where all of a finished run has gone."""
        compacted = self.path / "tables" / f"{name}.parquet"
        taken = [compacted] if compacted.is_file() else self._parts_of(name, steps)
        files = [*taken, *sorted(compacted.parent.glob(f"{name}-*.parquet"))]
        if not files and self.lacks_tables and not self._parts_of("scalars"):
            raise RecordsError(
                f"{compacted.parent}: is missing, and so are the snapshots, of a run that is finished; "
                "copy the run here whole, or train it again"
            )
        return files

    def _parts_of(self, name: str, steps: Collection[int] | None = None) -> list[Path]:
        """The files that training wrote, before they are compacted."""
        if name == "training":
            return sorted((self.path / "training").glob("part-*.parquet"))
        wanted = (s.path / f"{name}.parquet" for s in self.snapshots() if steps is None or s.step in steps)
        return [path for path in wanted if path.is_file()]

    # Writing

    def begin(self, config: Mapping[str, Any], info: RunInfo) -> None:
        """Start the run: write config.yaml, then run.json, which makes it exist."""
        self.path.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.path)
        # escaped: with allow_unicode some characters (U+0085) come back as others
        text = yaml.safe_dump(dict(config), sort_keys=False)
        replace_atomically(self.path / "config.yaml", lambda p: p.write_text(text, encoding="utf-8"))
        self._write_info(info)

    def clear(self) -> None:
        """Remove what an interrupted training left, so that it can start again from step 0."""
        for name in _WRITTEN_BY_TRAINING:
            if (self.path / name).exists():
                shutil.rmtree(self.path / name)  # what cannot be removed must not mix with what comes
        for name in (*_LOCATED, _PROBES):
            (self.path / name).unlink(missing_ok=True)
        remove_leftovers(self.path)

    def rewind(self, step: int) -> None:
        """Remove all that is later than `step`, so that training can go on from there and write each step once.

        What was gathered at the end of a training is gathered again; rows that were measured afterwards stay up to
        `step`. Killed in between, it can be called again.
        """
        for directory in (self.path, *(self.path / name for name in _WRITTEN_BY_TRAINING)):
            remove_leftovers(directory)
        remove_checkpoints_after(self.path, step)
        for name in _LOCATED:
            (self.path / name).unlink(missing_ok=True)
        for snapshot in reversed(self.snapshots()):
            if snapshot.step > step:
                remove_whole(snapshot.path)
        for name in TABLES:
            (self.path / "tables" / f"{name}.parquet").unlink(missing_ok=True)
            for later in (self.path / "tables").glob(f"{name}-*.parquet"):
                self._rewind_file(name, later, step)
        for part in reversed(self._parts_of("training")):
            self._rewind_file("training", part, step)

    def _rewind_file(self, name: str, path: Path, step: int) -> None:
        table = read_rows(name, [path])
        kept = table.filter(pc.field("step") <= step)
        if not kept.num_rows:
            path.unlink()
        elif kept.num_rows < table.num_rows:
            info = self.info
            replace_atomically(path, lambda p: self._write_table(name, kept, p, info))

    def update(self, **changes: Any) -> RunInfo:
        """Change fields of run.json. Raises RecordsError where the outcome would be invalid."""
        info = validate_info({**self.info.model_dump(), **changes}, str(self.path / "run.json"))
        self._write_info(info)
        return info

    def _write_info(self, info: RunInfo) -> None:
        text = json.dumps(info.model_dump(), indent=2, ensure_ascii=False) + "\n"
        replace_atomically(self.path / "run.json", lambda p: p.write_text(text, encoding="utf-8"))

    def write_probes(self, table: pa.Table) -> None:
        """Store what the examples of the held-out probe are. Raises RecordsError for other columns than `PROBES`."""
        validate_columns(PROBES, table, f"probes of {self.name}")
        replace_atomically(self.path / _PROBES, lambda p: pq.write_table(table, p))

    def write_snapshot(
        self, step: int, tables: Mapping[str, pa.Table], write_weights: Callable[[Path], object] | None = None
    ) -> None:
        """Commit a snapshot: one Parquet file a table, and weights.safetensors where `write_weights` is given.

        The hash of the weights goes into run.json.
        """
        info = self.info
        with directory_that_appears_whole(made(self.path / "snapshots") / name_of(step)) as aside:
            for name, table in tables.items():
                self._write_table(name, table, aside / f"{name}.parquet", info, _OF_A_SNAPSHOT)
            if write_weights:
                write_weights(aside / WEIGHTS)
                # noted before the snapshot is there: killed in between, it is taken, and noted, again
                self.update(weights={**info.weights, step: sha256_of(aside / WEIGHTS)})

    def append_training(self, table: pa.Table) -> None:
        """Commit rows of the training table as a further part file, named after its first step."""
        directory = made(self.path / "training")
        first = table.column("step")[0].as_py()
        info = self.info
        replace_atomically(
            directory / f"part-{first:08d}.parquet",
            lambda p: self._write_table("training", table, p, info, _OF_A_SNAPSHOT),
        )

    def append_rows(self, name: str, label: str, table: pa.Table) -> None:
        """Commit rows that were measured afterwards as `tables/<name>-<label>.parquet`.

        Versions of measures in the file's metadata are those of run.json, which the caller has brought up to date.
        """
        directory = made(self.path / "tables")
        info = self.info
        replace_atomically(directory / f"{name}-{label}.parquet", lambda p: self._write_table(name, table, p, info))

    def compact(self) -> None:
        """Gather what training wrote of each table into `tables/<name>.parquet`; snapshots and later parts stay."""
        self.write_tables((name, read_rows(name, self._parts_of(name))) for name in TABLES)

    def write_tables(self, tables: Iterable[tuple[str, pa.Table]]) -> None:
        """Write all rows of each table, where there are any, as `tables/<name>.parquet`."""
        made(self.path / "tables")
        info = self.info
        for name, table in tables:
            if table.num_rows:
                target = self.path / "tables" / f"{name}.parquet"
                replace_atomically(target, lambda p, n=name, t=table: self._write_table(n, t, p, info))

    def _write_table(self, name: str, table: pa.Table, path: Path, info: RunInfo, compression: str = _GATHERED) -> None:
        validate_table(name, table, f"{name} at {self.name}")
        metadata = {
            "schema_version": str(VERSION),
            "run_id": info.run_id,
            "hashes": json.dumps(info.hashes, sort_keys=True),
            "measure_versions": json.dumps(info.measure_versions, sort_keys=True),
            "probes": json.dumps(info.probes, sort_keys=True),
        }
        pq.write_table(table.replace_schema_metadata(metadata), path, ROWS_PER_GROUP, compression=compression)


def sha256_of(path: Path) -> str:
    """Of a file's content, in hexadecimal digits."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def find_runs(path: Path | str) -> list[RunDirectory]:
    """The run at `path`, or the runs of the study at `path`, by name. Raises RecordsError where there are none."""
    path = Path(path)
    if path.is_file():
        raise RecordsError(f"{path}: is a file; give the directory of a run or a study, such as runs/quickstart")
    if not path.is_dir():
        raise RecordsError(f"{path}: no such directory; give a run or a study, such as runs/quickstart")
    run = RunDirectory(path)
    runs = [run] if run.exists else [RunDirectory(p.parent) for p in sorted(path.glob("*/run.json"))]
    if not runs:
        raise RecordsError(f"{path}: {_what_instead(path)}")
    for run in runs:
        with suppress(RecordsError):  # told by who reads it
            if run.lacks_tables:
                _tell_that_tables_are_missing(run.path.absolute())
    return runs


def _what_instead(path: Path) -> str:
    """What a directory is that holds no run, and what to give."""
    if studies := sorted({file.parents[1].name for file in path.glob("*/*/run.json")}):
        return f"holds studies; give one of them: {', '.join(studies[:_SHOWN])}{', …' if len(studies) > _SHOWN else ''}"
    if above := next((parent for parent in path.resolve().parents if RunDirectory(parent).exists), None):
        return f"is a part of a run; give the run: {above}"
    return "neither a run nor a study (no run.json in it or one level below)"


@cache
def _tell_that_tables_are_missing(path: Path) -> None:
    """Once in a process."""
    _log.warning(
        "%s: tables/ of this finished run is missing; its snapshots are read instead, without what was measured "
        "afterwards, which bump measure takes again",
        path.name,
    )
