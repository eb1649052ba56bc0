"""What the tables and run.json must look like is checked whenever they are written and whenever they are read."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from induction_bump.records.directory import RunDirectory
from induction_bump.records.frames import rows
from induction_bump.records.schema import TABLES, RecordsError, validate_info, validate_table
from tests.records.make import make_run


def positions(n: int = 3) -> pa.Table:
    columns = {"position": np.arange(1, n + 1), "loss": np.ones(n), "stderr": np.ones(n)}
    return rows("positions", "abc", 7, 700, columns)


def test_rows_carry_run_step_and_tokens_in_the_types_of_the_contract():
    table = positions()
    assert table.schema.equals(TABLES["positions"])
    assert table.column("run_id").to_pylist() == ["abc"] * 3
    assert set(table.column("step").to_pylist()) == {7}
    assert set(table.column("tokens").to_pylist()) == {700}
    assert table.schema.field("position").type == pa.int32()


def test_every_table_starts_with_the_key():
    for schema in TABLES.values():
        assert schema.names[:3] == ["run_id", "step", "tokens"]
        assert [schema.field(i).type for i in range(3)] == [pa.string(), pa.int64(), pa.int64()]


def test_an_unknown_table_is_refused_by_name():
    with pytest.raises(RecordsError, match="no table is called 'scalar'; known: scalars"):
        validate_table("scalar", positions(), "here")


def test_a_missing_column_is_refused():
    with pytest.raises(RecordsError, match=r"here: columns .* instead of"):
        validate_table("positions", positions().drop_columns(["stderr"]), "here")


def test_columns_in_another_order_are_refused():
    table = positions()
    with pytest.raises(RecordsError, match="instead of"):
        validate_table("positions", table.select(list(reversed(table.column_names))), "here")


def test_a_column_of_another_type_is_refused_by_name():
    table = positions()
    place = table.column_names.index("loss")
    single = table.set_column(place, "loss", table.column("loss").cast(pa.float32()))
    with pytest.raises(RecordsError, match="here: column loss is float, not double"):
        validate_table("positions", single, "here")


def test_a_null_is_refused_where_the_column_must_be_full():
    with pytest.raises(RecordsError, match="column loss holds 1 nulls"):
        rows("positions", "abc", 0, 0, {"position": [1], "loss": [None], "stderr": [0.1]})


def test_a_null_is_kept_where_the_column_allows_it():
    table = rows("scalars", "abc", 0, 0, {"name": ["null99/prefix_matching"], "value": [0.1], "stderr": [None]})
    assert table.column("stderr").to_pylist() == [None]


@pytest.mark.parametrize(
    ("column", "value"), [("position", 1.5), ("position", "7"), ("position", 2**40), ("loss", "low")]
)
def test_a_value_is_not_bent_to_a_column_it_does_not_fit(column: str, value: object):
    columns = {"position": [1], "loss": [1.0], "stderr": [0.1]} | {column: [value]}
    with pytest.raises(RecordsError, match=f"positions at step 5: column {column}: "):
        rows("positions", "abc", 5, 0, columns)


def test_a_wrong_table_is_refused_on_write_and_leaves_no_snapshot(tmp_path: Path):
    run = RunDirectory(make_run(tmp_path, snapshots=3, status="running"))
    before = [s.step for s in run.snapshots()]
    with pytest.raises(RecordsError, match="instead of"):
        run.write_snapshot(9999, {"positions": positions().drop_columns(["stderr"])})
    assert [s.step for s in run.snapshots()] == before
    assert not list((run.path / "snapshots").glob("*9999*"))


def test_a_file_with_another_layout_is_refused_on_read_by_its_path(tmp_path: Path):
    run = RunDirectory(make_run(tmp_path, snapshots=3, status="running"))
    file = run.snapshots()[1].path / "positions.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["stderr"]), file)
    with pytest.raises(RecordsError, match=rf"{file}: columns"):
        run.table("positions")


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing that is Parquet", b"\0" * 4096])
def test_a_damaged_file_gives_one_line_with_its_path(tmp_path: Path, content: bytes):
    run = RunDirectory(make_run(tmp_path, snapshots=3, status="running"))
    file = run.snapshots()[1].path / "scalars.parquet"
    file.write_bytes(content)
    with pytest.raises(RecordsError) as caught:
        run.table("scalars")
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_whose_data_pages_are_damaged_gives_one_line_with_its_path(tmp_path: Path):
    run = RunDirectory(make_run(tmp_path, snapshots=3, status="running"))
    file = run.snapshots()[1].path / "positions.parquet"
    content = bytearray(file.read_bytes())
    content[4:200] = b"\xff" * 196
    file.write_bytes(content)
    with pytest.raises(RecordsError) as caught:
        run.table("positions")
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def info_values(tmp_path: Path) -> dict:
    return json.loads((make_run(tmp_path, snapshots=2) / "run.json").read_text())


def test_run_json_is_valid_as_it_was_written(tmp_path: Path):
    values = info_values(tmp_path)
    assert validate_info(values, "here").model_dump() == values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "done"}, "here: status: "),
        ({"total_steps": "many"}, "here: total_steps: "),
        ({"colour": "blue"}, "here: colour: "),
        ({"schema_version": 99}, "written by a newer version"),
    ],
)
def test_a_wrong_field_of_run_json_is_refused_by_name(tmp_path: Path, change: dict, message: str):
    with pytest.raises(RecordsError, match=message):
        validate_info({**info_values(tmp_path), **change}, "here")


def test_a_missing_field_of_run_json_is_refused_by_name(tmp_path: Path):
    values = info_values(tmp_path)
    del values["vocab_size"]
    with pytest.raises(RecordsError, match="here: vocab_size: Field required"):
        validate_info(values, "here")
