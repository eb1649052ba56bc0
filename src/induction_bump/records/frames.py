"""Building the rows of a table: each gets its run, step and tokens, and the table's column types."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from induction_bump.records.schema import TABLES, RecordsError, validate_table


def rows(table: str, run_id: str, step: int, tokens: int, columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Rows of one moment from columns without the key. Raises RecordsError where they do not fit the table's schema."""
    schema = TABLES[table]
    length = len(next(iter(columns.values())))
    key = {"run_id": [run_id] * length, "step": [step] * length, "tokens": [tokens] * length}
    everything: dict[str, Any] = {**key, **columns}
    arrays = [_column(everything[f.name], f, f"{table} at step {step}") for f in schema]
    return validate_table(table, pa.Table.from_arrays(arrays, schema=schema), f"{table} at step {step}")


def _column(values: Any, field: pa.Field, where: str) -> pa.Array:
    # from a list, pyarrow cuts 1.5 down to the integer 1 without a word; from numpy it refuses
    whole = np.asarray(values) if pa.types.is_integer(field.type) else values
    try:
        return pa.array(whole, field.type, from_pandas=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise RecordsError(f"{where}: column {field.name}: {str(error).splitlines()[0]}") from None
