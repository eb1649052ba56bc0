"""Located events as entries of a W&B run's summary."""

import hashlib
import json

import pyarrow.compute as pc

from induction_bump.records.derived import read_phase_changes
from induction_bump.records.directory import RunDirectory


def located_summary(run: RunDirectory) -> dict[str, bool | int | float | str]:
    """`bump/<event>/<column>` for each located event; empty while nothing has been located.

    A run is located by itself or with its study; what was written for the run itself comes first.
    Raises RecordsError for a damaged file.
    """
    run_id = run.info.run_id
    for directory in (run.path, run.path.parent):
        file = directory / "phase_changes.parquet"
        if file.is_file():
            rows = read_phase_changes(file).filter(pc.field("run_id") == run_id).to_pylist()
            if rows:
                return {
                    f"bump/{row['event']}/{column}": value
                    for row in rows
                    for column, value in row.items()
                    if column not in ("run_id", "run", "event") and value is not None
                }
    return {}


def digest(summary: dict[str, bool | int | float | str]) -> str:
    """Changes when the summary does; empty for an empty one."""
    if not summary:
        return ""
    return hashlib.sha256(json.dumps(summary, sort_keys=True).encode()).hexdigest()[:16]
