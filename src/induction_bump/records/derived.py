"""What is derived from records and can be derived again: the located events."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from induction_bump.records.schema import PHASE_CHANGES, RecordsError


def read_phase_changes(path: Path) -> pa.Table:
    """The rows of a `phase_changes.parquet`, one an event and run.

    Raises RecordsError, in one line that names the file, where it cannot be read or has another layout.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RecordsError(f"{path}: cannot be read, `bump locate` writes it anew: {reason}") from None
    for field in PHASE_CHANGES:
        if field.name not in table.column_names:
            raise RecordsError(f"{path}: column {field.name} is missing; `bump locate` writes it anew")
        found = table.schema.field(field.name).type
        if found != field.type:
            raise RecordsError(
                f"{path}: column {field.name} is {found}, not {field.type}; `bump locate` writes it anew"
            )
    return table.select(PHASE_CHANGES.names).replace_schema_metadata(None)
