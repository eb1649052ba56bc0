"""`records.load`: one DataFrame a table over a run or a study, filtered as it is read."""

import subprocess
import sys
from pathlib import Path

import pytest

from induction_bump.records.directory import RunDirectory
from induction_bump.records.load import load
from induction_bump.records.schema import PHASE_CHANGES, TABLES, RecordsError
from tests.records.make import make_run


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two runs: a finished one and one that is going."""
    make_run(tmp_path, name="two", snapshots=5, seed=1, run_id="aaaa")
    make_run(tmp_path, name="one", sublayers="s", snapshots=4, seed=2, run_id="bbbb", bump_at=None, status="running")
    return tmp_path / "study"


@pytest.mark.parametrize("table", list(TABLES))
def test_a_frame_has_the_columns_of_the_contract_and_the_rows_of_all_runs(study: Path, table: str):
    frame = getattr(load(study), table)
    assert list(frame.columns) == TABLES[table].names
    assert set(frame.run_id) == {run.info.run_id for run in load(study).directories if run.table(table).num_rows}
    assert len(frame) == sum(run.table(table).num_rows for run in load(study).directories)


def test_a_run_alone_gives_only_its_own_rows(study: Path):
    records = load(study / "two-aaaa")
    assert set(records.scalars.run_id) == {"aaaa"}
    assert records.runs.run_id.tolist() == ["aaaa"]


def test_runs_holds_the_config_with_dots_and_what_run_json_says(study: Path):
    runs = load(study).runs.set_index("run_id")
    assert runs.loc["aaaa", "model.sublayers"] == "ss"
    assert runs.loc["bbbb", "model.sublayers"] == "s"
    assert runs.loc["aaaa", "seed.init"] == 1
    assert runs.loc["aaaa", "data.corpus.vocab_size"] == 256
    assert runs.loc["aaaa", "run"] == "two-aaaa"
    assert runs.loc["aaaa", ["study", "name", "status"]].tolist() == ["study", "two", "finished"]
    assert runs.loc["bbbb", "status"] == "interrupted"
    assert runs.loc["aaaa", "total_tokens"] == 244 * 64 * 128
    assert len(set(runs.columns)) == len(runs.columns)


def test_filters_by_run_step_and_columns(study: Path):
    records = load(study)
    last = int(records.scalars.step.max())
    frame = records.read("heads", runs=["aaaa"], steps=[0, last], measure="prefix_matching", layer=1)
    assert set(frame.run_id) == {"aaaa"}
    assert set(frame.step) == {0, last}
    assert set(frame.measure) == {"prefix_matching"}
    assert set(frame.layer) == {1}
    assert len(frame) == 2 * 4


def test_a_list_keeps_rows_that_equal_one_of_its_entries(study: Path):
    frame = load(study).read("scalars", name=["loss", "icl_score"])
    assert set(frame.name) == {"loss", "icl_score"}


def test_a_filter_is_the_same_as_reading_all_and_choosing(study: Path):
    records = load(study)
    everything = records.read("heads")
    chosen = everything[(everything.measure == "previous_token") & (everything["head"] == 2)]
    filtered = records.read("heads", measure="previous_token", head=2)
    assert filtered.to_dict("list") == chosen.to_dict("list")


def test_an_unknown_column_is_refused_by_name(study: Path):
    with pytest.raises(RecordsError, match="table scalars has no column nmae"):
        load(study).read("scalars", nmae="loss")


def test_a_run_that_is_not_there_is_refused(study: Path):
    with pytest.raises(RecordsError, match="none of the runs"):
        load(study).read("scalars", runs=["cccc"])


def test_steps_are_unique_per_run(study: Path):
    losses = load(study).read("scalars", name="loss")
    assert not losses.duplicated(["run_id", "step"]).any()
    assert not load(study).training.duplicated(["run_id", "step"]).any()


def test_a_study_with_a_run_without_heads_is_read(tmp_path: Path):
    make_run(tmp_path, name="bigram", sublayers="", snapshots=3, run_id="aaaa")
    make_run(tmp_path, name="two", snapshots=3, run_id="bbbb", seed=1)
    assert set(load(tmp_path / "study").heads.run_id) == {"bbbb"}


def test_without_located_events_phase_changes_is_empty_with_its_columns(study: Path):
    frame = load(study).phase_changes
    assert list(frame.columns) == PHASE_CHANGES.names
    assert frame.empty


def test_new_snapshots_are_seen_by_a_new_load(study: Path):
    before = len(load(study).scalars)
    run = RunDirectory(study / "one-bbbb")
    first = run.snapshots()[0]
    table = run.table("scalars", [first.step])
    moved = table.set_column(1, table.schema.field("step"), [[999] * table.num_rows])
    run.write_snapshot(999, {"scalars": moved})
    assert len(load(study).scalars) == before + table.num_rows


def test_reading_records_loads_no_torch():
    program = """
import sys
import induction_bump.records.frames, induction_bump.records.load, induction_bump.records.lock
loaded = sorted({"torch", "lightning", "pytorch_lightning"} & {m.split(".")[0] for m in sys.modules})
sys.exit(f"loaded {loaded}" if loaded else 0)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
