"""Reading the Parquet files of a table: only the rows and columns that are asked for.

A study of 100 runs holds tens of millions of rows, so filters are applied while a file is read: row groups without
any of the steps are passed over, and of the others only few rows at a time are there unfiltered.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from induction_bump.records.schema import TABLES, RecordsError, validate_columns, validate_table

_MARK = b"PAR1"
ROWS_PER_GROUP = 32_768
"""Of the files that are written. Rows lie in order of steps, so a few snapshots are in one or two of the groups."""


def check_whole(path: Path) -> None:
    """Raises RecordsError, in one line that names it, for a Parquet file that was cut short: it ends as it begins."""
    try:
        with path.open("rb") as file:
            file.seek(-len(_MARK), os.SEEK_END)
            whole = file.read() == _MARK
    except FileNotFoundError:  # removed since it was listed, by a run that starts again
        return
    except OSError as error:
        raise _unreadable(path, error) from None
    if not whole:
        raise RecordsError(f"{path}: cut short, or no Parquet file")


def read_file(path: Path) -> pa.Table:
    """All of a Parquet file. Raises RecordsError, in one line that names it, where it cannot be read."""
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None


def read_rows(
    name: str,
    files: Collection[Path],
    steps: Collection[int] | None = None,
    equals: Mapping[str, Any] | None = None,
    columns: Collection[str] | None = None,
) -> pa.Table:
    """Rows of the table `name` from its files, in order of steps and, within a step, of the files.

    Only those of `steps`, and only those whose columns hold what `equals` says: a value, or one of a list of values.
    `columns` are the ones to return, in the table's own order.

    Raises RecordsError for an unknown table or column, and for a file that does not have the table's layout.
    """
    if name not in TABLES:
        raise RecordsError(f"no table is called '{name}'; known: {', '.join(TABLES)}")
    schema, equals = TABLES[name], equals or {}
    asked = schema.names if columns is None else list(columns)
    for column in (*equals, *asked):
        if column not in schema.names:
            raise RecordsError(f"table {name} has no column {column}; it has {schema.names}")
    wanted = {column: _several(value) for column, value in equals.items()}
    if steps is not None:
        wanted["step"] = sorted(set(steps) & set(wanted.get("step", steps)))
    needed = [column for column in schema.names if column in {*asked, *wanted, "step"}]
    parts = list(_chosen((part for path in files for part in _parts(name, path, needed, wanted)), wanted))
    found = pa.concat_tables([pa.schema([schema.field(column) for column in needed]).empty_table(), *parts])
    return _in_order(found).select([column for column in schema.names if column in asked])


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple | set | frozenset) else [value]


def _chosen(parts: Iterable[pa.Table], wanted: Mapping[str, list[Any]]) -> Iterator[pa.Table]:
    """The rows that are wanted. Small parts are filtered together: one by one that takes as long as reading them."""
    held: list[pa.Table] = []
    rows = 0
    for part in parts:
        held.append(part)
        rows += part.num_rows
        if rows >= ROWS_PER_GROUP:
            yield _filtered(held, wanted)
            held, rows = [], 0
    if held:
        yield _filtered(held, wanted)


def _filtered(parts: list[pa.Table], wanted: Mapping[str, list[Any]]) -> pa.Table:
    rows = pa.concat_tables(parts)
    for column, values in wanted.items():
        rows = rows.filter(pc.field(column).isin(values))
    return rows


def _parts(name: str, path: Path, needed: list[str], wanted: Mapping[str, list[Any]]) -> Iterator[pa.Table]:
    """A file's row groups that may hold some of the steps, checked."""
    try:
        with pq.ParquetFile(path) as file:
            validate_table(name, file.schema_arrow.empty_table(), str(path))
            schema = pa.schema([TABLES[name].field(column) for column in needed])
            for group in range(file.num_row_groups):
                if "step" in wanted and not _may_hold(file, group, wanted["step"]):
                    continue
                # threads are for runs: within a file they cost more than they bring
                rows = file.read_row_group(group, columns=needed, use_threads=False).replace_schema_metadata(None)
                yield validate_columns(schema, rows, str(path)).cast(schema)  # which a foreign file may allow nulls in
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None


def _may_hold(file: pq.ParquetFile, group: int, steps: list[int]) -> bool:
    """Whether a row group's lowest and highest step leave room for one of `steps`."""
    place = file.schema_arrow.get_field_index("step")
    bounds = file.metadata.row_group(group).column(place).statistics
    return bounds is None or not bounds.has_min_max or any(bounds.min <= step <= bounds.max for step in steps)


def _in_order(table: pa.Table) -> pa.Table:
    """By step; the order within a step stays. Most tables are in order already, and sorting would copy them."""
    step = table.column("step").to_numpy()
    return table if bool((step[:-1] <= step[1:]).all()) else table.sort_by("step")


def _unreadable(path: Path, error: Exception) -> RecordsError:
    return RecordsError(f"{path}: {(str(error).splitlines() or [type(error).__name__])[0]}")
