"""Studies with known times, in memory: configs, events as `bump locate` would write them, and tables where wanted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from induction_bump.records.load import Records
from induction_bump.records.schema import PHASE_CHANGES, TABLES

END = 2_000_000
"""Tokens of each run."""
CONFIG = {
    "model.sublayers": "ss",
    "model.d_model": 64,
    "model.smeared_keys": False,
    "model.clamps": [],
    "data.corpus.name": "repeats",
    "data.corpus.copy_share": 0.9,
    "data.context": 128,
    "training.batch_sequences": 64,
    "training.learning_rate": 0.004,
    "training.warmup": "100step",
    "measures.icl.window": 32,
    "devices.threads": 1,
    "seed.data": 0,
}


class Study(Records):
    """Records that were never written."""

    def __init__(self, runs: pd.DataFrame, located: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> None:
        super().__init__(Path("made"), [])
        self.__dict__ |= {"runs": runs, "phase_changes": located}  # where cached properties keep what they have read
        self._tables = tables

    def read(self, table: str, runs: Any = None, steps: Any = None, **equals: Any) -> pd.DataFrame:
        """As `Records.read`, from what was given."""
        empty = pa.Table.from_pylist([], schema=TABLES[table]).to_pandas()
        rows = self._tables.get(table, empty)
        for column, wanted in equals.items():
            rows = rows[rows[column].isin(wanted if isinstance(wanted, list) else [wanted])]
        return rows.reset_index(drop=True)


def made_study(runs: Mapping[str, Mapping[str, Any]], **tables: pd.DataFrame) -> Study:
    """A study of finished runs.

    runs: run_id → `cell` (settings by dotted key that differ from CONFIG), `seed`, and `events`: event → (low, high) in
    tokens, a verdict, or None for `not_found`; `parameters` where they count.
    """
    rows = [
        {
            "run": name,
            "run_id": name,
            "total_tokens": END,
            "tokens_per_step": 8192,
            "parameters": about.get("parameters", 1000),
            **CONFIG,
        }
        | {"seed.init": about["seed"], **about.get("cell", {})}
        for name, about in runs.items()
    ]
    events = [_row(name, event, known) for name, about in runs.items() for event, known in about["events"].items()]
    located = pa.Table.from_pylist(events, schema=PHASE_CHANGES).to_pandas()
    return Study(pd.DataFrame(rows), located, tables)


def _row(run_id: str, event: str, known: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(PHASE_CHANGES.names)
    row |= {"run_id": run_id, "run": run_id, "event": event, "rule": "made"}
    if known is None or isinstance(known, str):
        verdict = known or "not_found"
        low = 1_000_000 if verdict == "right_censored" else None
        return row | {"found": False, "verdict": verdict, "tokens_low": low}
    low, high = known
    change = event.endswith("_change")
    return row | {
        "found": True,
        "verdict": "abrupt" if change else "found",
        "tokens_low": int(low),
        "tokens_high": int(high),
        "tokens_estimate": float((low * high) ** 0.5) if low else float(high),
        "ci_low": low * 1.01 if change else float(low),
        "ci_high": high * 0.99 if change else float(high),
        "value_before": -0.1,
        "value_after": -1.2,
    }


def paired(cells: Mapping[str, Mapping[str, Any]], times: Mapping[str, list[Any]]) -> dict[str, dict[str, Any]]:
    """Runs of cells that have the same seeds, with an ICL event each."""
    return {
        f"{cell}-{seed}": {"cell": settings, "seed": seed, "events": {"icl": times[cell][seed]}}
        for cell, settings in cells.items()
        for seed in range(len(times[cell]))
    }


def row_of(frame: pd.DataFrame, **equals: Any) -> dict[str, Any]:
    """The one row with these values."""
    for column, value in equals.items():
        frame = frame[frame[column] == value]
    (row,) = frame.to_dict("records")
    return row
