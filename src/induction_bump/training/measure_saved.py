"""Takes measures afterwards, on the saved weights of a run's snapshots, and adds the rows that are missing."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from induction_bump.data.corpus import prepare
from induction_bump.measures.probes import Probes
from induction_bump.measures.registry import VERSIONS, measure_of
from induction_bump.measures.take import take
from induction_bump.model.transformer import Transformer
from induction_bump.options import parse
from induction_bump.records.directory import RunDirectory, find_runs
from induction_bump.records.lock import RunLock
from induction_bump.records.schema import RecordsError
from induction_bump.training.options import RunConfig
from induction_bump.training.snapshot import tables_of
from induction_bump.training.weights import load_weights

_LABEL_COLUMN = {"scalars": "name", "heads": "measure", "examples": "name"}
_MEASURE_OF_TABLE = {"positions": "loss_by_position", "tokens": "token_losses"}


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
    info = run.info
    saved = [s for s in run.snapshots() if (s.path / "weights.safetensors").is_file()]
    corpus = prepare(config.data, Path(config.paths.cache).expanduser())
    probes = Probes.draw(corpus, config.data.context, config.measures)
    for name, value in {"corpus": corpus.fingerprint, "tokenizer": corpus.tokenizer_hash, **probes.hashes}.items():
        if info.hashes.get(name) != value:
            raise RecordsError(f"{run.path}: its {name} is not what it is now; measures would not be comparable")
    model = Transformer(config.model, corpus.vocab_size, config.data.context)
    parts: dict[str, list[pa.Table]] = {}
    for number, snapshot in enumerate(saved, 1):
        progress(f"{run.path.name}: snapshot {number} of {len(saved)} (step {snapshot.step})")
        load_weights(model, snapshot.path / "weights.safetensors")
        tables = tables_of(take(model, probes, config.measures), info.run_id, snapshot.step, snapshot.tokens)
        for table, rows in tables.items():
            missing = _missing(rows, table, run.table(table, [snapshot.step]), names)
            if missing.num_rows:
                parts.setdefault(table, []).append(missing)
    if parts:
        lock = RunLock(run.path)
        lock.acquire()
        try:
            for table, rows in parts.items():
                number = len(list((run.path / "tables").glob(f"{table}-*.parquet")))
                run.append_rows(table, f"measured{number:04d}", pa.concat_tables(rows))
        finally:
            lock.release()
    return Added(run.path.name, len(saved), sum(p.num_rows for rows in parts.values() for p in rows))


def _missing(rows: pa.Table, table: str, there: pa.Table, names: set[str]) -> pa.Table:
    """Rows of one snapshot that belong to the wanted measures and are not there yet."""
    column = _LABEL_COLUMN.get(table)
    if column is None:
        wanted = _MEASURE_OF_TABLE[table] in names and there.num_rows == 0
        return rows if wanted else rows.slice(0, 0)
    present = set(there.column(column).to_pylist())
    labels = {label for label in rows.column(column).to_pylist() if measure_of(label) in names} - present
    return rows.filter(pc.field(column).isin(sorted(labels))) if labels else rows.slice(0, 0)
