"""Studies with known times, for the tests of what links them: records made up, events written as `bump locate` would."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from induction_bump.records.load import Records, load
from induction_bump.records.schema import PHASE_CHANGES
from tests.records.make import make_run

EVENTS = ("previous_token", "prefix_matching", "copy_advantage", "icl")


def made_study(root: Path, runs: Mapping[str, Mapping[str, Any]]) -> Records:
    """A study of short runs. name → `cell` (settings by dotted key), `seed`, and `events`: event → (low, high) in tokens,
    a verdict, or None for `not_found`; what starts with `of` are options of `make_run`."""
    rows = []
    for place, (name, about) in enumerate(runs.items()):
        run_id = f"{place:04x}"
        path = make_run(root, name=name, run_id=run_id, snapshots=4, seed=about["seed"], **about.get("made", {}))
        _set(path, about.get("cell", {}) | {"seed.init": about["seed"], "seed.data": 0})
        rows += [_row(run_id, path.name, event, known) for event, known in about.get("events", {}).items()]
    table = pa.Table.from_pylist(rows, schema=PHASE_CHANGES)
    pq.write_table(table, root / "study" / "phase_changes.parquet")
    return load(root / "study")


def _set(path: Path, settings: Mapping[str, Any]) -> None:
    file = path / "config.yaml"
    config = yaml.safe_load(file.read_text())
    for key, value in settings.items():
        *sections, last = key.split(".")
        place = config
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    file.write_text(yaml.safe_dump(config, sort_keys=False))


def _row(run_id: str, run: str, event: str, known: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(PHASE_CHANGES.names) | {
        "run_id": run_id,
        "run": run,
        "event": event,
        "rule": "made",
    }
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
