"""A study in compact form is located, and drawn, as the study itself is."""

import filecmp
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from induction_bump.linking.overview import overview
from induction_bump.locate.run import find
from induction_bump.locate.summary import summarise
from induction_bump.records.directory import RunDirectory
from induction_bump.records.load import load
from induction_bump.records.schema import PROBES, TABLES
from tests.analysis.script import call_script, run_script
from tests.records.make import make_run


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds with the bump and one without, in which everything was measured."""
    root = tmp_path_factory.mktemp("whole")
    for seed, bump_at in enumerate((0.5e6, 0.6e6, 0.8e6, None)):
        made = make_run(root, name=f"s{seed}", seed=seed, bump_at=bump_at, snapshots=16, expensive_every=15)
        examples = pa.array(range(16), pa.int32())
        RunDirectory(made).write_probes(pa.table([examples] * len(PROBES.names), PROBES))
        (made / "report.html").write_text("a page")
        weights = next((made / "snapshots").glob("*")) / "weights.safetensors"
        weights.write_bytes(b"weights")
    return root / "study"


@pytest.fixture(scope="module")
def compact(study: Path) -> Path:
    """The same in compact form."""
    out = study.parent / "kept"
    done = run_script("compact_records", study, "--out", out)
    assert not done.returncode, done.stderr
    assert not RunDirectory(next(out.iterdir())).lacks_tables
    assert done.stdout == f"wrote {out}: {sum(f.stat().st_size for f in out.rglob('*') if f.is_file()) / 1e6:.1f} MB\n"
    return out


def test_it_is_located_to_the_same_events_and_cells(study: Path, compact: Path) -> None:
    whole, kept = find(study), find(compact)
    assert kept.table.equals(whole.table)
    assert kept.cells == whole.cells
    assert any(cell.median for cell in whole.cells)
    assert any(run.event("icl").verdict == "not_found" for run in whole.runs)  # which counts as later than its end
    assert kept.text() == whole.text()
    assert summarise(kept) == summarise(whole)
    assert overview(kept) == overview(whole)


def test_every_table_but_one_is_there_row_by_row_and_every_config(study: Path, compact: Path) -> None:
    # all that changes are found from
    whole, kept = load(study), load(compact)
    for name in TABLES:
        table = whole.read(name)
        assert kept.read(name).equals(table if name != "ablated_tokens" else table[:0]), name
    assert kept.runs.drop(columns="path").equals(whole.runs.drop(columns="path"))
    for run in whole.directories:
        assert filecmp.cmp(run.path / "probes.parquet", compact / run.name / "probes.parquet")


def test_nothing_is_there_that_can_be_made_again_or_cannot_be_read_without_torch(compact: Path) -> None:
    files = {file.relative_to(run.path) for run in load(compact).directories for file in run.path.rglob("*")}
    tables = {Path(f"tables/{name}.parquet") for name in TABLES if name != "ablated_tokens"}
    assert files == {Path("config.yaml"), Path("run.json"), Path("probes.parquet"), Path("tables"), *tables}


def test_records_that_are_there_are_not_written_over(study: Path, compact: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in compact.rglob("*")}
    done = call_script("compact_records", study, "--out", compact)
    assert done.returncode
    assert "is there already" in done.stderr
    assert {file: file.stat().st_mtime_ns for file in compact.rglob("*")} == before


def test_a_run_ends_at_its_last_row_where_the_directories_of_snapshots_are_gone(study: Path, tmp_path: Path) -> None:
    [run, *_] = load(study).directories
    shutil.copytree(run.path, tmp_path / run.name)
    shutil.rmtree(tmp_path / run.name / "snapshots")
    [gone], [there] = find(tmp_path / run.name).runs, find(run.path).runs
    assert gone.tokens == there.tokens > 0
