"""Located events are read back, or refused in one line that names the file."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from induction_bump.records.damage import RecordsWarning
from induction_bump.records.derived import read_phase_changes
from induction_bump.records.directory import RunDirectory
from induction_bump.records.load import load
from induction_bump.records.schema import PHASE_CHANGES, RecordsError
from induction_bump.tracking.located import located_summary
from tests.records.make import make_run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """One event of a run."""
    path = make_run(tmp_path, snapshots=3) / "phase_changes.parquet"
    row = {"run_id": RunDirectory(path.parent).info.run_id, "event": "icl", "found": True, "tokens_low": 5}
    pq.write_table(pa.Table.from_pylist([row], schema=PHASE_CHANGES), path)
    return path


def test_what_was_written_is_read(file: Path) -> None:
    table = read_phase_changes(file)
    assert table.schema == PHASE_CHANGES
    assert table.column("event").to_pylist() == ["icl"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def scribble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[10 : len(content) - 8] = b"\xff" * (len(content) - 18)
    path.write_bytes(bytes(content))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def without_a_column(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns(["verdict"]), path)


def of_another_type(path: Path) -> None:
    table = pq.read_table(path)
    place = table.column_names.index("tokens_low")
    pq.write_table(table.set_column(place, "tokens_low", table.column("tokens_low").cast(pa.float64())), path)


DAMAGES = {
    cut: "cannot be read",
    scribble: "cannot be read",
    empty: "cannot be read",
    without_a_column: "column verdict is missing",
    of_another_type: "column tokens_low is double, not int64",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_refused_in_one_line_that_names_it(file: Path, damage) -> None:
    damage(file)
    for read in (lambda: read_phase_changes(file), lambda: located_summary(RunDirectory(file.parent))):
        with pytest.raises(RecordsError, match=DAMAGES[damage]) as refused:
            read()
        assert str(refused.value).startswith(f"{file}: ")
        assert len(str(refused.value).splitlines()) == 1
    with pytest.warns(RecordsWarning, match=DAMAGES[damage]):
        assert load(file.parent).phase_changes.empty
