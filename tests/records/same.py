"""Two runs whose records should be the same to the last bit."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from induction_bump.records.checkpoints import checkpoints
from induction_bump.records.directory import RunDirectory
from induction_bump.records.schema import TABLES

OF_THE_CLOCK = {"created_at", "started_at", "finished_at", "seconds", "pid", "resumes", "run_id", "git_revision"}
"""Fields of run.json that tell when, not what."""


def assert_same_records(found: RunDirectory, expected: RunDirectory) -> None:
    """Every table, every weight and the state after the last step; only what clocks say may differ."""
    own, other = (run.info.model_dump(exclude=OF_THE_CLOCK) for run in (found, expected))
    assert own == other
    assert files(found.path) == files(expected.path)
    for name in files(expected.path):
        if name.endswith("weights.safetensors"):
            assert (found.path / name).read_bytes() == (expected.path / name).read_bytes(), name
        elif name.endswith(".parquet"):
            assert_same_table(found.path / name, expected.path / name)
    for table in TABLES:
        steps = found.table(table).column("step").to_pylist()
        assert steps == expected.table(table).column("step").to_pylist()
        if table == "training":
            assert steps == list(range(1, len(steps) + 1))
    assert_same_state(last_state(found.path), last_state(expected.path))


def files(run: Path) -> set[str]:
    """What a run is made of, but for part files and checkpoints, which depend on clocks and stops."""
    places = ("snapshots", "tables")
    return {str(p.relative_to(run)) for place in places for p in (run / place).rglob("*")} | {
        p.name for p in run.glob("*.parquet") if not p.name.startswith("phase_changes")
    }


def assert_same_table(found: Path, expected: Path) -> None:
    """Columns, rows and metadata; run ids and speeds apart."""
    tables = [pq.read_table(path) for path in (found, expected)]
    metadata = [{k: v for k, v in (t.schema.metadata or {}).items() if k != b"run_id"} for t in tables]
    assert metadata[0] == metadata[1], found
    rows = [_what_counts(table) for table in tables]
    assert rows[0].schema.equals(rows[1].schema), found
    assert _bits(rows[0]) == _bits(rows[1]), found


def _what_counts(table: pa.Table) -> pa.Table:
    names = [name for name in table.column_names if name not in ("run_id", "tokens_per_second")]
    return table.select(names).replace_schema_metadata(None).combine_chunks()


def _bits(table: pa.Table) -> dict[str, Any]:
    """Numbers as bytes, so that a missing value is itself and 0 is not −0."""

    def of(column: pa.ChunkedArray) -> Any:
        return column.to_numpy().tobytes() if pa.types.is_floating(column.type) else column.to_pylist()

    return {name: of(column) for name, column in zip(table.column_names, table.columns, strict=True)}


def last_state(run: Path) -> dict[str, Any]:
    """What the last checkpoint holds."""
    return torch.load(checkpoints(run)[-1].state, weights_only=True)


def assert_same_state(found: Any, expected: Any, where: str = "state") -> None:
    """Nested containers of tensors, bit for bit."""
    assert type(found) is type(expected), where
    if isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype, where
        assert torch.equal(found, expected), where
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected.keys() - {"seconds"}:
            assert_same_state(found[key], expected[key], f"{where}[{key}]")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for number, pair in enumerate(zip(found, expected, strict=True)):
            assert_same_state(*pair, f"{where}[{number}]")
    else:
        assert json.dumps(found) == json.dumps(expected), where
