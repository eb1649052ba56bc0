"""Reading table files: what is left out is never read, and what is read is what was written."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from induction_bump.records.frames import rows
from induction_bump.records.load import load
from induction_bump.records.schema import TABLES, RecordsError
from induction_bump.records.tables import read_rows
from tests.records.make import make_run

STEPS, EXAMPLES = 40, 50


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A file of the table `tokens` with eight row groups, in order of steps."""
    made = pa.concat_tables(
        rows("tokens", "aaaa", step, 64 * step, {"example": np.arange(EXAMPLES), "loss": [float(step)] * EXAMPLES})
        for step in range(STEPS)
    )
    path = tmp_path / "tokens.parquet"
    pq.write_table(made, path, row_group_size=STEPS * EXAMPLES // 8)
    return path


def groups_read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, tuple[str, ...]]]:
    """What is asked of files from now on: numbers of row groups, with the columns."""
    asked: list[tuple[int, tuple[str, ...]]] = []
    original = pq.ParquetFile.read_row_group

    def noted(file: pq.ParquetFile, group: int, columns: list[str], **options: object) -> pa.Table:
        asked.append((group, tuple(columns)))
        return original(file, group, columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    return asked


def test_row_groups_without_the_steps_are_passed_over(tokens: Path, monkeypatch: pytest.MonkeyPatch):
    asked = groups_read(monkeypatch)
    found = read_rows("tokens", [tokens], steps=[7, 39, 1000])
    assert [group for group, _ in asked] == [1, 7]
    assert sorted(set(found["step"].to_pylist())) == [7, 39]
    assert found.num_rows == 2 * EXAMPLES


def test_a_step_between_those_of_a_group_is_looked_for_and_not_found(tmp_path: Path):
    made = [rows("tokens", "aaaa", step, step, {"example": [0], "loss": [0.5]}) for step in (10, 30)]
    pq.write_table(pa.concat_tables(made), tmp_path / "tokens.parquet")
    assert read_rows("tokens", [tmp_path / "tokens.parquet"], steps=[20]).num_rows == 0


def test_only_the_columns_that_are_returned_or_filtered_by_are_read(tokens: Path, monkeypatch: pytest.MonkeyPatch):
    asked = groups_read(monkeypatch)
    found = read_rows("tokens", [tokens], steps=[7], equals={"example": [3, 4]}, columns=["loss", "tokens"])
    assert asked == [(1, ("step", "tokens", "example", "loss"))]
    assert found.to_pydict() == {"tokens": [7 * 64] * 2, "loss": [7.0] * 2}
    assert found.schema.field("loss") == TABLES["tokens"].field("loss")


def test_steps_as_a_filter_and_as_a_column_are_both_kept_to(tokens: Path):
    found = read_rows("tokens", [tokens], steps=[7, 8], equals={"step": [8, 9]})
    assert set(found["step"].to_pylist()) == {8}


def test_rows_of_several_files_are_in_order_of_steps_and_then_of_files(tmp_path: Path):
    files = []
    for place, steps in enumerate([(0, 2), (1, 2), (0, 1)]):
        made = [rows("tokens", "aaaa", step, step, {"example": [place], "loss": [0.0]}) for step in steps]
        files.append(tmp_path / f"{place}.parquet")
        pq.write_table(pa.concat_tables(made), files[-1])
    found = read_rows("tokens", files)
    order = list(zip(found["step"].to_pylist(), found["example"].to_pylist(), strict=True))
    assert order == [(0, 0), (0, 2), (1, 1), (1, 2), (2, 0), (2, 1)]


def test_nulls_are_a_value_that_rows_can_be_asked_for_by(tmp_path: Path):
    path = make_run(tmp_path, snapshots=4, expensive_every=2)
    groups = load(path).read("ablations", layer=None)
    everything = load(path).ablations
    assert len(groups) == everything["layer"].isna().sum() > 0
    assert set(groups["group"]) == {"induction", "matched"}


@pytest.mark.parametrize("part", ["columns", "equals"])
def test_a_column_that_the_table_does_not_have_is_refused(tokens: Path, part: str):
    asked = {"columns": ["lss"]} if part == "columns" else {"equals": {"lss": 1}}
    with pytest.raises(RecordsError, match="table tokens has no column lss; it has"):
        read_rows("tokens", [tokens], **asked)


def test_another_layout_is_refused_even_where_only_other_columns_are_asked_for(tokens: Path, tmp_path: Path):
    wrong = pq.read_table(tokens)
    place = wrong.schema.get_field_index("loss")
    cast = wrong.set_column(place, "loss", wrong["loss"].cast(pa.float64()))
    pq.write_table(cast, tmp_path / "wrong.parquet")
    with pytest.raises(RecordsError, match=r"wrong\.parquet: column loss is double, not float"):
        read_rows("tokens", [tmp_path / "wrong.parquet"], columns=["step"])
    pq.write_table(wrong.drop_columns(["loss"]), tmp_path / "wrong.parquet")
    with pytest.raises(RecordsError, match=r"wrong\.parquet: columns "):
        read_rows("tokens", [tmp_path / "wrong.parquet"], steps=[])


def test_frames_are_their_own_and_can_be_changed(tmp_path: Path):
    records = load(make_run(tmp_path, snapshots=4))
    for columns in (None, ["loss"], ["step", "loss"]):
        frame = records.read("tokens", columns=columns)
        frame.loc[0, "loss"] = -1.0
        frame["loss"] *= 2
        assert frame["loss"].iloc[0] == -2.0
    assert records.tokens["loss"].min() > -2.0
