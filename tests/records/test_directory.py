"""What a run's directory holds at each moment, and that nothing committed is ever lost."""

import contextlib
import datetime
import errno
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from induction_bump.locate.options import LocateOptions
from induction_bump.model.options import ModelOptions
from induction_bump.records import files
from induction_bump.records.checkpoints import checkpoints, write_checkpoint
from induction_bump.records.directory import RunDirectory, find_runs
from induction_bump.records.frames import rows
from induction_bump.records.schema import PROBES, TABLES, RecordsError
from induction_bump.tracking.options import TrackingOptions
from tests.leftovers import left_by_a_dead_writer
from tests.records.make import make_run


@pytest.fixture
def going(tmp_path: Path) -> RunDirectory:
    """A run that is not yet compacted."""
    return RunDirectory(make_run(tmp_path, snapshots=6, status="running"))


def snapshot_tables(run: RunDirectory, step: int, loss: float = 1.0) -> dict[str, pa.Table]:
    tokens = step * run.info.tokens_per_step
    columns = {"name": ["loss"], "value": [loss], "stderr": [0.1]}
    return {"scalars": rows("scalars", run.info.run_id, step, tokens, columns)}


def training_rows(run: RunDirectory, first: int, last: int) -> pa.Table:
    per_step, columns = run.info.tokens_per_step, ("loss", "learning_rate", "grad_norm", "tokens_per_second")
    return pa.concat_tables(
        rows("training", run.info.run_id, s, s * per_step, {c: [float(s)] for c in columns})
        for s in range(first, last + 1)
    )


def test_snapshots_come_in_order_with_their_tokens(going: RunDirectory):
    snapshots = going.snapshots()
    steps = [s.step for s in snapshots]
    assert steps[0] == 0
    assert steps == sorted(set(steps))
    assert [s.tokens for s in snapshots] == [s * going.info.tokens_per_step for s in steps]
    assert all(s.path.is_dir() for s in snapshots)


def test_snapshots_are_ordered_as_numbers_also_beyond_eight_digits(going: RunDirectory):
    going.write_snapshot(123_456_789, snapshot_tables(going, 123_456_789))
    going.write_snapshot(99_999_999, snapshot_tables(going, 99_999_999))
    assert [s.step for s in going.snapshots()][-2:] == [99_999_999, 123_456_789]


@pytest.mark.parametrize("name", ["00000640.before", "00000640 (copy)", "7", "2024-06-01", "0000064²"])
def test_what_somebody_put_beside_snapshots_or_checkpoints_is_none_and_stays(going: RunDirectory, name: str):
    write_checkpoint(going.path, 0, lambda path: str(path.write_text("state")))
    aside = [going.path / place / name for place in ("snapshots", "checkpoints")]
    for directory in aside:
        directory.mkdir()
    before = [s.step for s in going.snapshots()]
    going.rewind(before[1])
    assert [s.step for s in going.snapshots()] == before[:2]
    for step in (1, 2, 3):
        write_checkpoint(going.path, step, lambda path: str(path.write_text("state")))
    assert [checkpoint.step for checkpoint in checkpoints(going.path)] == [2, 3]
    assert all(directory.is_dir() for directory in aside)


def test_a_table_of_a_run_that_is_going_is_what_its_snapshots_hold(going: RunDirectory):
    table = going.table("scalars")
    assert table.schema.equals(TABLES["scalars"])
    assert sorted(set(table.column("step").to_pylist())) == [s.step for s in going.snapshots()]
    parts = [pq.read_table(s.path / "scalars.parquet") for s in going.snapshots()]
    assert table.num_rows == sum(p.num_rows for p in parts)


def test_only_the_steps_asked_for_are_read(going: RunDirectory):
    wanted = [going.snapshots()[1].step, going.snapshots()[3].step]
    assert sorted(set(going.table("heads", wanted).column("step").to_pylist())) == wanted
    going.compact()
    assert sorted(set(going.table("heads", wanted).column("step").to_pylist())) == wanted


def test_compaction_keeps_every_row(going: RunDirectory):
    before = {name: going.table(name) for name in TABLES}
    going.compact()
    assert {p.stem for p in (going.path / "tables").iterdir()} == {n for n, t in before.items() if t.num_rows}
    for name, table in before.items():
        assert going.table(name).equals(table), name


def test_compacting_twice_changes_nothing(going: RunDirectory):
    going.compact()
    before = {name: going.table(name) for name in TABLES}
    going.compact()
    for name, table in before.items():
        assert going.table(name).equals(table), name


def test_a_table_nobody_wrote_is_empty_with_its_columns(tmp_path: Path):
    bigram = RunDirectory(make_run(tmp_path, sublayers="", snapshots=3))
    assert bigram.table("heads").num_rows == 0
    assert bigram.table("heads").schema.equals(TABLES["heads"])


def test_training_rows_are_gathered_over_part_files_in_order(going: RunDirectory):
    last = going.info.total_steps
    going.append_training(training_rows(going, last + 1, last + 3))
    steps = going.table("training").column("step").to_pylist()
    assert steps == list(range(1, last + 4))


def test_rows_measured_afterwards_join_those_of_training(tmp_path: Path):
    run = RunDirectory(make_run(tmp_path, snapshots=4))
    before = run.table("scalars")
    run.append_rows("scalars", "later", snapshot_tables(run, 1, loss=7.0)["scalars"])
    after = run.table("scalars")
    assert after.num_rows == before.num_rows + 1
    assert 7.0 in after.column("value").to_pylist()
    run.append_rows("scalars", "later", snapshot_tables(run, 1, loss=8.0)["scalars"])
    assert run.table("scalars").num_rows == before.num_rows + 1


def test_files_carry_the_hashes_and_versions_they_were_measured_with(going: RunDirectory):
    metadata = pq.read_metadata(going.snapshots()[0].path / "scalars.parquet").metadata
    assert metadata[b"run_id"].decode() == going.info.run_id
    assert going.info.hashes["held_out"] in metadata[b"hashes"].decode()
    assert b"prefix_matching" in metadata[b"measure_versions"]


def test_clearing_leaves_no_trace_of_training_but_keeps_the_config(going: RunDirectory):
    going.compact()
    for name in ("phase_changes.csv", "phase_changes.parquet"):
        (going.path / name).write_text("")
    (going.path / "checkpoints").mkdir()
    left_by_a_dead_writer(going.path / "run.json").write_text("")
    going.clear()
    assert sorted(p.name for p in going.path.iterdir()) == ["config.yaml", "run.json"]
    assert going.snapshots() == []
    assert all(going.table(name).num_rows == 0 for name in TABLES)


def test_what_a_killed_writer_left_is_no_snapshot(going: RunDirectory):
    steps = [s.step for s in going.snapshots()]
    aside = going.path / "snapshots" / ".00000099.1.tmp"
    aside.mkdir()
    (aside / "scalars.parquet").write_bytes(b"half")
    assert [s.step for s in going.snapshots()] == steps
    assert sorted(set(going.table("scalars").column("step").to_pylist())) == steps


def test_a_snapshot_is_not_committed_where_writing_its_weights_fails(going: RunDirectory):
    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    steps = [s.step for s in going.snapshots()]
    with pytest.raises(OSError, match="No space left"):
        going.write_snapshot(999, snapshot_tables(going, 999), full)
    assert [s.step for s in going.snapshots()] == steps
    assert not [p for p in (going.path / "snapshots").iterdir() if "999" in p.name]


class FullDiskError(OSError):
    """Nothing more fits."""


class FullDisk:
    """Lets a number of writes through, then fails each one as a full disk does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
        self.left, self.refused = allowed, 0
        for owner, name in ((pq, "write_table"), (files, "sync"), (Path, "write_text"), (Path, "mkdir")):
            monkeypatch.setattr(owner, name, self._limited(getattr(owner, name)))

    def _limited(self, original):
        def write(*args, **kwargs):
            if self.left <= 0:
                self.refused += 1
                raise FullDiskError(errno.ENOSPC, "No space left on device")
            self.left -= 1
            return original(*args, **kwargs)

        return write


@pytest.mark.parametrize("action", ["write_snapshot", "append_training", "compact", "update", "append_rows"])
def test_a_disk_that_fills_at_any_write_costs_nothing_that_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str
):
    run = RunDirectory(make_run(tmp_path, snapshots=3, status="running"))
    table, training = snapshot_tables(run, 999), training_rows(run, 900, 905)
    before = {name: run.table(name) for name in TABLES}
    for allowed in range(100):
        here = RunDirectory(shutil.copytree(run.path, tmp_path / str(allowed)))
        doing = {
            "write_snapshot": lambda here: here.write_snapshot(999, table),
            "append_training": lambda here: here.append_training(training),
            "compact": lambda here: here.compact(),
            "update": lambda here: here.update(message="full"),
            "append_rows": lambda here: here.append_rows("scalars", "later", table["scalars"]),
        }[action]
        with monkeypatch.context() as patch:
            disk = FullDisk(patch, allowed)
            with contextlib.suppress(FullDiskError):
                doing(here)
        for name, committed in before.items():
            assert here.table(name).slice(0, committed.num_rows).equals(committed), (name, allowed)
        assert here.info.run_id == run.info.run_id
        assert here.config == run.config
        assert not list(here.path.rglob(".*.tmp"))
        if not disk.refused:
            break
    assert allowed > 1
    assert not disk.refused


def test_run_json_is_read_anew_each_time(going: RunDirectory):
    assert going.info.message is None
    RunDirectory(going.path).update(message="stopped by hand")
    assert going.info.message == "stopped by hand"


def test_an_update_that_would_be_invalid_is_refused_and_changes_nothing(going: RunDirectory):
    before = (going.path / "run.json").read_bytes()
    with pytest.raises(RecordsError, match="status"):
        going.update(status="over")
    assert (going.path / "run.json").read_bytes() == before


def test_a_directory_that_is_no_run_does_not_exist_as_one(tmp_path: Path):
    assert not RunDirectory(tmp_path).exists
    with pytest.raises(RecordsError, match=r"run\.json"):
        _ = RunDirectory(tmp_path).info
    with pytest.raises(RecordsError, match=r"config\.yaml"):
        _ = RunDirectory(tmp_path).config


@pytest.mark.parametrize("content", ["", "- a list\n", "{unclosed: ", "\t- : x"])
def test_a_damaged_config_is_named(going: RunDirectory, content: str):
    (going.path / "config.yaml").write_text(content)
    with pytest.raises(RecordsError, match=r"config\.yaml"):
        _ = going.config


@pytest.mark.parametrize("content", ["", "{", "[]", '{"run_id": 1}'])
def test_a_damaged_run_json_is_named(going: RunDirectory, content: str):
    (going.path / "run.json").write_text(content)
    with pytest.raises(RecordsError, match=r"run\.json"):
        _ = going.info


def test_an_unknown_table_is_refused_by_name(going: RunDirectory):
    with pytest.raises(RecordsError, match="no table is called 'head'"):
        going.table("head")


def test_a_run_has_a_name_from_wherever_it_is_looked_at(going: RunDirectory, monkeypatch: pytest.MonkeyPatch):
    (going.path / "training").mkdir(exist_ok=True)
    for where, path in ((going.path, "."), (going.path / "training", ".."), (going.path.parent, going.path.name)):
        monkeypatch.chdir(where)
        assert RunDirectory(path).name == going.path.name
    assert RunDirectory(going.path / ".").name == going.path.name


def test_a_study_is_its_runs_by_name_and_a_run_is_itself(tmp_path: Path):
    paths = [make_run(tmp_path, name=name, snapshots=2) for name in ("b", "a", "c")]
    (tmp_path / "study" / ".sweep").mkdir()
    (tmp_path / "study" / "notes").mkdir()
    assert [r.path for r in find_runs(tmp_path / "study")] == sorted(paths)
    assert [r.path for r in find_runs(paths[0])] == [paths[0]]


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_what_is_neither_a_run_nor_a_study_is_refused_in_one_line(tmp_path: Path, name: str):
    with pytest.raises(RecordsError) as caught:
        find_runs(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_probes_are_kept_beside_the_run(going: RunDirectory):
    assert going.probes() is None
    table = pa.table({name: np.arange(3, dtype=np.int32) for name in PROBES.names}, schema=PROBES)
    going.write_probes(table)
    assert going.probes().equals(table)


def test_probes_are_checked_when_they_are_written_and_when_they_are_read(going: RunDirectory):
    wide = pa.table({name: np.arange(3) for name in PROBES.names})
    with pytest.raises(RecordsError, match="column example is int64, not int32"):
        going.write_probes(wide)
    assert going.probes() is None
    pq.write_table(wide, going.path / "probes.parquet")
    with pytest.raises(RecordsError, match=r"probes\.parquet: column example is int64, not int32"):
        going.probes()
    (going.path / "probes.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(RecordsError, match=r"probes\.parquet: ") as caught:
        going.probes()
    assert "\n" not in str(caught.value)


def test_a_section_of_the_config_is_read_as_its_options(going: RunDirectory):
    assert going.typed(ModelOptions, "model").n_attention == 2
    assert going.typed(TrackingOptions, "tracking").tags == ("made-up",)
    assert going.typed(LocateOptions, "nothing") == LocateOptions()
    config = yaml.safe_load((going.path / "config.yaml").read_text())
    for section, reason in (
        ({"d_model": "wide"}, "model.d_model: Input should be a valid integer"),
        ({"clamps": [{"layer": 0, "head": "x", "kind": "zero"}]}, "model.clamps.0.head: Input should be"),
        ({"n_heads": 5}, "model: n_heads=5 does not divide"),
        ({"d_model": datetime.date(2026, 1, 1)}, "Object of type date is not JSON"),
        ("small", "model is not a mapping"),
    ):
        (going.path / "config.yaml").write_text(yaml.safe_dump({**config, "model": section}))
        with pytest.raises(RecordsError) as caught:
            going.typed(ModelOptions, "model")
        assert str(caught.value).startswith(f"{going.path / 'config.yaml'}: {reason}")
        assert "\n" not in str(caught.value)
