"""Takes measures afterwards, on the saved weights of a run's snapshots, and adds the rows that are missing."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from induction_bump.data.corpus import prepare
from induction_bump.measures.null import null99
from induction_bump.measures.probes import Probes
from induction_bump.measures.registry import VERSIONS, measure_of
from induction_bump.measures.take import take
from induction_bump.model.transformer import Transformer
from induction_bump.options import parse
from induction_bump.records.directory import RunDirectory, find_runs
from induction_bump.records.lock import RunLock
from induction_bump.records.schema import RecordsError
from induction_bump.training.options import RunConfig
from induction_bump.training.snapshot import add_nulls, tables_of
from induction_bump.training.weights import load_weights

_LABEL_COLUMN = {"scalars": "name", "heads": "measure", "examples": "name"}
_MEASURE_OF_TABLE = {"positions": "loss_by_position", "tokens": "token_losses"}
_ALL_TABLES = (*_LABEL_COLUMN, *_MEASURE_OF_TABLE)


@dataclass(frozen=True)
class Added:
    """What was added to one run."""

    run: str
    snapshots: int
    """Snapshots whose weights were read."""
    rows: int
    """Rows that were not there before."""


def check_names(names: Collection[str]) -> None:
    """Raises ValueError for a measure that does not exist."""
    unknown = sorted(set(names) - set(VERSIONS))
    if unknown:
        raise ValueError(f"--measures: no measure is called {', '.join(unknown)}; known: {', '.join(sorted(VERSIONS))}")


def measure(
    path: Path, names: Collection[str] = (), progress: Callable[[str], None] = lambda line: None
) -> list[Added]:
    """Take measures (all, or those in `names`) of every run at `path` wherever weights were saved.

    Rows that are there already stay as they are. Raises ValueError for an unknown measure, RecordsError where a run's
    corpus or probes are no longer the ones it was measured on.
    """
    check_names(names)
    return [_measure_run(run, set(names) or set(VERSIONS), progress) for run in find_runs(path)]


def _measure_run(run: RunDirectory, names: set[str], progress: Callable[[str], None]) -> Added:
    config = parse(RunConfig, run.config)
    corpus = prepare(config.data, Path(config.paths.cache).expanduser())
    probes = Probes.draw(corpus, config.data.context, config.measures)
    lock = RunLock(run.path)
    lock.acquire()  # before looking at what is missing, so that nobody else adds it meanwhile
    try:
        _check_same(run, {"corpus": corpus.fingerprint, "tokenizer": corpus.tokenizer_hash, **probes.hashes}, names)
        saved = [s for s in run.snapshots() if (s.path / "weights.safetensors").is_file()]
        present = {table: _present(run.table(table), table) for table in _ALL_TABLES}
        model = Transformer(config.model, corpus.vocab_size, config.data.context)
        parts: dict[str, list[pa.Table]] = {}
        run_id = run.info.run_id
        for number, snapshot in enumerate(saved, 1):
            progress(f"{run.path.name}: snapshot {number} of {len(saved)} (step {snapshot.step})")
            load_weights(model, snapshot.path / "weights.safetensors")
            measured = take(model, probes, config.measures)
            if snapshot.step == 0 and "null99" in names:
                cache = Path(config.paths.cache).expanduser()
                shape = (config.model, corpus.vocab_size, config.data.context)
                add_nulls(measured, null99(*shape, probes, config.measures.null, cache))
            for table, rows in tables_of(measured, run_id, snapshot.step, snapshot.tokens).items():
                missing = _missing(rows, table, present[table].get(snapshot.step, set()), names)
                if missing.num_rows:
                    parts.setdefault(table, []).append(missing)
        _commit(run, parts, names)
    finally:
        lock.release()
    return Added(run.path.name, len(saved), sum(p.num_rows for rows in parts.values() for p in rows))


def _check_same(run: RunDirectory, hashes: Mapping[str, str], names: set[str]) -> None:
    """Raises RecordsError where rows of now would not belong to the rows that are there."""
    info = run.info
    for name, value in hashes.items():
        if info.hashes.get(name) != value:
            raise RecordsError(f"{run.path}: its {name} is not what it is now; measures would not be comparable")
    for name in sorted(names & set(info.measure_versions)):
        if info.measure_versions[name] != VERSIONS[name]:
            raise RecordsError(
                f"{run.path}: it holds version {info.measure_versions[name]} of {name}, and this is version "
                f"{VERSIONS[name]}; leave it out with --measures"
            )


def _present(table: pa.Table, name: str) -> dict[int, set[str]]:
    """Which names of rows there are at each step; tables without names have the empty one."""
    column = _LABEL_COLUMN.get(name)
    steps = table.column("step").to_pylist()
    labels = table.column(column).to_pylist() if column else [""] * len(steps)
    found: dict[int, set[str]] = {}
    for step, label in set(zip(steps, labels, strict=True)):
        found.setdefault(step, set()).add(label)
    return found


def _missing(rows: pa.Table, table: str, present: set[str], names: set[str]) -> pa.Table:
    """Rows of one snapshot that belong to the wanted measures and are not there yet."""
    column = _LABEL_COLUMN.get(table)
    if column is None:
        wanted = _MEASURE_OF_TABLE[table] in names and not present
        return rows if wanted else rows.slice(0, 0)
    labels = {label for label in rows.column(column).to_pylist() if measure_of(label) in names} - present
    return rows.filter(pc.field(column).isin(sorted(labels))) if labels else rows.slice(0, 0)


def _commit(run: RunDirectory, parts: Mapping[str, list[pa.Table]], names: set[str]) -> None:
    if not parts:
        return
    run.update(measure_versions={**run.info.measure_versions, **{name: VERSIONS[name] for name in names}})
    for table, rows in parts.items():
        number = len(list((run.path / "tables").glob(f"{table}-*.parquet")))
        run.append_rows(table, f"measured{number:04d}", pa.concat_tables(rows))
