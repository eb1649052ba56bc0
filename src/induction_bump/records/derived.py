"""What is derived from records and can be derived again: located events, changes, and their spread over seeds."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from induction_bump.records.schema import CELLS, CHANGES, PHASE_CHANGES, RecordsError

LOCATED = {"phase_changes": PHASE_CHANGES, "changes": CHANGES, "cells": CELLS}
"""Tables that `bump locate` writes, by the name of their files."""


def read_phase_changes(path: Path) -> pa.Table:
    """The rows of a `phase_changes.parquet`, one an event and run; see `read_located`."""
    return read_located(path, PHASE_CHANGES)


def read_located(path: Path, schema: pa.Schema) -> pa.Table:
    """A table of `LOCATED`.

    Raises RecordsError, in one line that names the file, where it cannot be read or has another layout.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RecordsError(f"{path}: cannot be read, `bump locate` writes it anew: {reason}") from None
    for field in schema:
        if field.name not in table.column_names:
            raise RecordsError(f"{path}: column {field.name} is missing; `bump locate` writes it anew")
        found = table.schema.field(field.name).type
        if found != field.type:
            raise RecordsError(
                f"{path}: column {field.name} is {found}, not {field.type}; `bump locate` writes it anew"
            )
    return table.select(schema.names).replace_schema_metadata(None)
