"""Measures that are taken afterwards."""

from pathlib import Path

import pytest

from induction_bump.records.directory import RunDirectory
from induction_bump.records.load import load
from induction_bump.records.schema import RecordsError
from induction_bump.training.measure_saved import measure
from induction_bump.training.train import train
from tests.training.runs import begin, config_of


def trained_run(tmp_path: Path) -> Path:
    """Weights are kept at steps 0, 5 and 8; measures were taken at 0 and 8."""
    snapshots = {"measures": {}, "weights": {"at": ["5step"]}}
    config = config_of(tmp_path / "cache", snapshots=snapshots)
    run = begin(tmp_path / "run", config)
    train(config, run)
    run.update(status="finished")
    return run.path


def test_missing_rows_are_added_and_those_that_are_there_stay(tmp_path: Path) -> None:
    path = trained_run(tmp_path)
    before = load(path)
    assert set(before.scalars.step) == {0, 8}
    (added,) = measure(path)
    after = load(path)
    assert added.snapshots == 3
    assert set(after.scalars.step) == set(after.heads.step) == set(after.positions.step) == {0, 5, 8}
    assert not after.scalars.duplicated(["step", "name"]).any()
    assert not after.heads.duplicated(["step", "layer", "head", "measure"]).any()
    assert after.scalars[after.scalars.step != 5].reset_index(drop=True).equals(before.scalars)
    (again,) = measure(path)
    assert again.rows == 0


def test_only_what_is_asked_for_is_added(tmp_path: Path) -> None:
    path = trained_run(tmp_path)
    measure(path, ["icl_score", "prefix_matching"])
    records = load(path)
    assert set(records.read("scalars", steps=[5]).name) == {"icl_score"}
    assert set(records.read("heads", steps=[5]).measure) == {"prefix_matching"}
    assert records.read("positions", steps=[5]).empty


def test_an_unknown_measure_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no measure is called icl_scores; known: .*icl_score"):
        measure(tmp_path, ["icl_scores"])


def test_compacting_again_keeps_rows_once(tmp_path: Path) -> None:
    path = trained_run(tmp_path)
    measure(path)
    run = RunDirectory(path)
    before = run.table("scalars")
    run.compact()
    assert run.table("scalars").equals(before)


def test_versions_are_noted_and_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = trained_run(tmp_path)
    run = RunDirectory(path)
    older = {name: version for name, version in run.info.measure_versions.items() if name != "icl_score"}
    run.update(measure_versions={**older, "loss": 7})
    with pytest.raises(RecordsError, match="it holds version 7 of loss, and this is version 1"):
        measure(path, ["loss"])
    measure(path, ["icl_score"])
    assert run.info.measure_versions == {**older, "loss": 7, "icl_score": 1}


def test_the_null_can_be_taken_afterwards(tmp_path: Path) -> None:
    path = trained_run(tmp_path)
    before = load(path).scalars
    for file in (path / "tables").glob("scalars*"):
        file.unlink()
    run = RunDirectory(path)
    stripped = run.table("scalars")
    for snapshot in run.snapshots():
        (snapshot.path / "scalars.parquet").unlink(missing_ok=True)
    assert stripped.num_rows == len(before)
    measure(path, ["null99"])
    assert set(load(path).scalars.name) == {"null99/prefix_matching", "null99/previous_token"}


def test_another_probe_is_refused(tmp_path: Path) -> None:
    path = trained_run(tmp_path)
    config = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(config.replace("seed: 1001", "seed: 1002"))
    with pytest.raises(RecordsError, match="its held_out is not what it is now"):
        measure(path)
