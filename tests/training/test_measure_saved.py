"""Measures that are taken afterwards."""

import json
import math
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from induction_bump.measures.registry import MEASURED_TABLES, VERSIONS, tables_with
from induction_bump.pools import WorkerLostError
from induction_bump.records import saved_weights
from induction_bump.records.directory import WEIGHTS, RunDirectory, sha256_of
from induction_bump.records.load import load
from induction_bump.records.saved_weights import with_weights
from induction_bump.records.schema import RecordsError
from induction_bump.training import measure_saved, measured_runs
from induction_bump.training.measure_saved import measure
from induction_bump.training.measured_runs import Bench, perform
from induction_bump.training.train import train
from tests.training.runs import begin, config_of

_place: list[Path] = []
_trained: dict[str, Path] = {}
"""Runs by what makes them another than the base config."""


@pytest.fixture(scope="module", autouse=True)
def _one_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    _place.append(tmp_path_factory.mktemp("trained"))
    yield
    _place.clear()
    _trained.clear()


def trained_run(directory: Path, name: str = "run", **changes: dict[str, Any]) -> Path:
    """A copy of a run that was trained once for all tests, with its cache. See `train_run`."""
    kind = json.dumps(changes)
    if kind not in _trained:
        _trained[kind] = train_run(_place[0] / str(len(_trained)), **changes)
    return shutil.copytree(_trained[kind], directory / name)


def train_run(directory: Path, **changes: dict[str, Any]) -> Path:
    """Weights are kept at steps 0, 5 and 8; measures were taken at 0 and 8."""
    snapshots = {"measures": {}, "weights": {"at": ["5step"]}}
    config = config_of(directory / "cache", **{"snapshots": snapshots, **changes})
    run = begin(directory / "run", config)
    train(config, run)
    run.update(status="finished")
    return run.path


def test_missing_rows_are_added_and_those_that_are_there_stay(tmp_path: Path) -> None:
    path = trained_run(tmp_path)
    before = load(path)
    assert set(before.scalars.step) == {0, 8}
    (added,) = measure(path, workers=1)
    after = load(path)
    assert added.snapshots == 3
    assert set(after.scalars.step) == set(after.heads.step) == set(after.positions.step) == {0, 5, 8}
    assert not after.scalars.duplicated(["step", "name"]).any()
    assert not after.heads.duplicated(["step", "layer", "head", "measure"]).any()
    assert after.scalars[after.scalars.step != 5].reset_index(drop=True).equals(before.scalars)
    (again,) = measure(path, workers=1)
    assert again.rows == 0


def test_only_what_is_asked_for_is_added(tmp_path: Path) -> None:
    path = trained_run(tmp_path)
    measure(path, ["icl_score", "prefix_matching"], workers=1)
    records = load(path)
    assert set(records.read("scalars", steps=[5]).name) == {"icl_score"}
    assert set(records.read("heads", steps=[5]).measure) == {"prefix_matching"}
    assert records.read("positions", steps=[5]).empty


def test_an_unknown_measure_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no measure is called icl_scores; known: .*icl_score"):
        measure(tmp_path, ["icl_scores"])


def test_compacting_again_keeps_rows_once(tmp_path: Path) -> None:
    path = trained_run(tmp_path)
    measure(path, workers=1)
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
        measure(path, ["loss"], workers=1)
    measure(path, ["icl_score"], workers=1)
    assert run.info.measure_versions == {**older, "loss": 7, "icl_score": 1}


def test_the_version_of_a_measure_goes_into_what_records_carry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While training and afterwards: into run.json, and into the metadata of the files that hold its rows."""
    for module in ("train", "measure_saved"):
        monkeypatch.setattr(f"induction_bump.training.{module}.VERSIONS", {**VERSIONS, "loss": 7, "zero_ablation": 8})
    path = train_run(tmp_path)
    measure(path, ["zero_ablation"], workers=1)
    (rows,) = (path / "tables").glob("ablations-*.parquet")
    carried = [
        json.loads(pq.read_schema(file).metadata[b"measure_versions"])
        for file in (path / "tables/scalars.parquet", rows)
    ]
    assert carried[0]["loss"] == carried[1]["loss"] == RunDirectory(path).info.measure_versions["loss"] == 7
    assert carried[1]["zero_ablation"] == RunDirectory(path).info.measure_versions["zero_ablation"] == 8
    assert "zero_ablation" not in carried[0]


def test_the_null_can_be_taken_afterwards(tmp_path: Path) -> None:
    path = trained_run(tmp_path)
    nulls = {"null99/prefix_matching", "null99/previous_token"}
    before = load(path).scalars
    file = path / "tables/scalars.parquet"
    rows = pq.read_table(file)
    pq.write_table(rows.filter(~pc.field("name").isin(list(nulls))), file)
    assert set(load(path).scalars.name) == set(before.name) - nulls
    measure(path, ["null99"], workers=1)
    key = ["step", "name"]
    pd.testing.assert_frame_equal(*(r.sort_values(key, ignore_index=True) for r in (load(path).scalars, before)))


def test_another_probe_is_refused(tmp_path: Path) -> None:
    path = trained_run(tmp_path)
    config = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(config.replace("seed: 1001", "seed: 1002"))
    with pytest.raises(RecordsError, match="its held_out is not what it is now"):
        measure(path, workers=1)


def test_what_does_not_read_the_other_probe_can_be_taken(tmp_path: Path) -> None:
    """As of a run of an earlier package, whose shuffled copies were others."""
    path = trained_run(tmp_path)
    run = RunDirectory(path)
    versions = run.info.measure_versions
    run.update(
        hashes={**run.info.hashes, "repeats": "d" * 64},
        measure_versions={**versions, "ordered_copy_advantage": 1, "zero_ablation": 1},
    )
    for names, refusal in (
        (["ordered_copy_advantage", "path_order", "zero_ablation"], r"version 1 of ordered_.*version 1 of zero_abl"),
        (["prefix_matching", "path_order"], "its repeats is not what it is now; prefix_matching would not"),
    ):
        with pytest.raises(RecordsError, match=refusal):
            measure(path, names, workers=1)
    [added] = measure(path, ["path_order", "composition_k"], workers=1)
    assert added.snapshots == 3


EXPENSIVE = ("head_pairs", "ablations", "ablated_tokens", "paths")


def test_every_table_is_filled_for_every_snapshot_with_weights(tmp_path: Path) -> None:
    path = trained_run(tmp_path)
    measure(path, workers=1)
    records = load(path)
    for table in EXPENSIVE:
        assert set(records.read(table).step) == {0, 5, 8}, table
    by_kind = records.ablations[records.ablations["layer"].notna()].groupby(["step", "kind"]).size()
    assert set(by_kind) == {4 * 4}  # heads × quantities
    assert set(by_kind.index.get_level_values("kind")) == {"zero", "mean", "pattern_preserving"}
    assert len(records.ablated_tokens) == 3 * 3 * 4 * 8  # steps, kinds, heads, examples
    assert set(records.head_pairs.kind) == {"q", "k", "v"}
    assert set(records.paths.how) == {"up_to", "added", "removed"}


def test_several_processes_give_the_rows_of_one(tmp_path: Path) -> None:
    """Two runs at once, each snapshot somewhere else."""
    study = tmp_path / "study"
    for name in ("a", "b"):
        trained_run(study, name)
    alone = trained_run(tmp_path, "alone")
    measure(alone, workers=1)
    added = measure(study, workers=2)
    assert [(each.run, each.snapshots) for each in added] == [("a", 3), ("b", 3)]
    for table in ("scalars", "heads", *EXPENSIVE):
        expected = load(alone).read(table).drop(columns="run_id")
        for name in ("a", "b"):
            pd.testing.assert_frame_equal(
                _sorted(load(study / name).read(table)), _sorted(expected), rtol=1e-4, atol=1e-5
            )


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.drop(columns="run_id", errors="ignore")
    keys = [c for c in frame.columns if c not in ("value", "stderr", "loss", "baseline")]
    return frame.sort_values(keys).reset_index(drop=True)


def test_a_call_that_is_cut_off_is_taken_up_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = trained_run(tmp_path)
    monkeypatch.setattr(measure_saved, "COMMIT_SECONDS", 0.0)
    original, calls = measure_saved.perform, []

    def dies(bench: Any, task: Any) -> Any:
        calls.append(task.step)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(bench, task)

    monkeypatch.setattr(measure_saved, "perform", dies)
    with pytest.raises(KeyboardInterrupt):
        measure(path, ["zero_ablation", "smear"], workers=1)
    assert set(load(path).ablations.step) == {0}
    first = load(path).ablations
    calls.clear()
    monkeypatch.setattr(
        measure_saved, "perform", lambda bench, task: (calls.append(task.step), original(bench, task))[1]
    )
    measure(path, ["zero_ablation", "smear"], workers=1)
    assert calls == [5, 8]
    after = load(path).ablations
    assert set(after.step) == {0, 5, 8}
    assert after[after.step == 0].reset_index(drop=True).equals(first)
    assert not after.duplicated(["step", "layer", "head", "kind", "quantity"]).any()


def test_every_table_that_a_measure_fills_is_known(tmp_path: Path) -> None:
    path = trained_run(tmp_path, model={"sublayers": "ss", "d_model": 16, "n_heads": 2, "smeared_keys": True})
    measure(path, workers=1)
    found: dict[str, set[str]] = {}
    for table in MEASURED_TABLES:
        for names in measure_saved._present(RunDirectory(path), table, [0, 5, 8]).values():
            for name in names:
                found.setdefault(name, set()).add(table)
    assert found == {name: set(tables_with(name)) for name in found}
    assert found.keys() == VERSIONS.keys() - {"prefix_matching_mean", "group_ablation"}


@pytest.mark.parametrize(
    ("names", "first", "second"),
    [
        (["zero_ablation"], "ablations", "ablated_tokens"),
        (["icl_score", "icl_window_score"], "scalars", "examples"),
        (["copying_logit"], "heads", "scalars"),
    ],
)
def test_a_call_that_is_cut_off_between_two_tables_is_taken_up_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], first: str, second: str
) -> None:
    path, whole = trained_run(tmp_path), trained_run(tmp_path, "whole")
    measure(whole, names, workers=1)
    original, written = RunDirectory.append_rows, list[str]()

    def dies(self: RunDirectory, name: str, label: str, table: Any) -> None:
        if written:
            raise KeyboardInterrupt
        original(self, name, label, table)
        written.append(name)

    with monkeypatch.context() as patched:
        patched.setattr(RunDirectory, "append_rows", dies)
        with pytest.raises(KeyboardInterrupt):
            measure(path, names, steps=[5], workers=1)
    measure(path, names, workers=1)
    assert {first, second} >= set(written)
    for table in (first, second):
        expected, found = (_sorted(load(each).read(table)) for each in (whole, path))
        assert set(found.step) == {0, 5, 8}
        pd.testing.assert_frame_equal(found, expected)


def break_weights(path: Path, step: int) -> None:
    file = path / f"snapshots/{step:08d}/weights.safetensors"
    save_file({name: torch.full_like(tensor, math.nan) for name, tensor in load_file(file).items()}, file)
    as_saved(RunDirectory(path))


def as_saved(run: RunDirectory) -> None:
    """Let run.json take the weights that are there for those that training saved."""
    run.update(weights={s.step: sha256_of(s.path / WEIGHTS) for s in with_weights(run)})


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_is_no_longer_finite_does_not_keep_the_others_from_being_measured(
    tmp_path: Path, workers: int
) -> None:
    study = tmp_path / "study"
    paths = [trained_run(study, name) for name in ("a", "b")]
    break_weights(paths[0], 5)
    broken, whole = measure(study, ["zero_ablation"], workers=workers)
    assert (broken.snapshots, broken.failed) == (2, {5: "the model's losses are not finite"})
    assert (whole.snapshots, whole.failed) == (3, {})
    assert set(load(paths[0]).ablations.step) == set(load(paths[0]).ablated_tokens.step) == {0, 8}
    assert set(load(paths[1]).ablations.step) == {0, 5, 8}


@pytest.mark.parametrize("end", [KeyboardInterrupt, RuntimeError])
def test_finished_rows_are_kept_whatever_ends_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: type[BaseException]
) -> None:
    path = trained_run(tmp_path)
    original = measure_saved.perform

    def ends(bench: Any, task: Any) -> Any:
        if task.step == 8:
            raise end
        return original(bench, task)

    monkeypatch.setattr(measure_saved, "perform", ends)
    with pytest.raises(end):
        measure(path, ["zero_ablation"], workers=1)
    assert set(load(path).ablations.step) == set(load(path).ablated_tokens.step) == {0, 5}


def lose_the_process(path: Path, task: Any) -> Any:
    """Stands in for `perform` in a worker: the last snapshot kills it, once the others are done."""
    if task.step == 8:
        while len(list(path.glob("done-*"))) < 2:
            time.sleep(0.1)
        time.sleep(0.5)  # for the last rows to arrive
        os._exit(1)
    found = perform(path, task)
    (path / f"done-{task.step}").touch()
    return found


@pytest.mark.processes
def test_finished_rows_are_kept_where_a_process_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = trained_run(tmp_path)
    monkeypatch.setattr(measure_saved, "perform", lose_the_process)
    told = (
        "a process that takes measures was lost, perhaps for want of memory; what was finished is kept, and the same "
        "command takes the rest: try fewer --workers"
    )
    with pytest.raises(WorkerLostError, match=f"^{told}$"):
        measure(path, ["smear", "zero_ablation"], workers=2)
    assert set(load(path).ablations.step) == {0, 5}
    monkeypatch.undo()
    measure(path, ["zero_ablation"], workers=1)
    assert set(load(path).ablations.step) == {0, 5, 8}


class _PoolAskedForError(Exception):
    """Carries the devices that were asked for."""


def test_processes_are_one_a_gpu_unless_said_and_share_the_gpus_evenly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pool(asked: list[int | None]) -> None:
        raise _PoolAskedForError(asked)

    def asked_for(device: str, there: int, workers: int | None = None) -> list[int | None]:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
        monkeypatch.setattr(Bench, "device", torch.device(device))
        with pytest.raises(_PoolAskedForError) as asked:
            measure(path, ["zero_ablation"], workers=workers)
        return asked.value.args[0]

    path = trained_run(tmp_path)  # of three snapshots
    monkeypatch.setattr(measure_saved, "_pool", pool)
    monkeypatch.setattr(measure_saved, "available_cores", lambda: 16)
    assert asked_for("cuda", 2) == [0, 1]
    assert asked_for("cuda", 3) == asked_for("cuda", 8) == [0, 1, 2]
    assert asked_for("cuda", 2, workers=3) == [0, 1, 0]
    assert asked_for("cuda", 1, workers=2) == [0, 0]
    assert asked_for("cpu", 2) == [None, None, None]
    assert asked_for("cpu", 0, workers=2) == [None, None]


def test_a_process_that_measures_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    to_take = multiprocessing.get_context("spawn").SimpleQueue()
    for device in (0, 1, 0):
        to_take.put(device)
    for _ in range(3):
        measured_runs.prepare_worker(1, to_take)
    assert chosen == [0, 1, 0]


def test_a_further_part_never_takes_the_place_of_another(tmp_path: Path) -> None:
    path = trained_run(tmp_path)
    for step in (0, 5, 8):
        measure(path, ["path_order"], steps=[step], workers=1)
    (path / "tables/paths-measured0000.parquet").unlink()
    assert set(load(path).paths.step) == {5, 8}
    measure(path, ["path_order"], workers=1)
    assert set(load(path).paths.step) == {0, 5, 8}


def test_chosen_steps_only(tmp_path: Path) -> None:
    path = trained_run(tmp_path)
    measure(path, ["path_order"], steps=[5], workers=1)
    assert set(load(path).paths.step) == {5}
    measure(path, ["path_order"], steps="last", workers=1)
    assert set(load(path).paths.step) == {5, 8}
    with pytest.raises(ValueError, match=r"--steps: run has no weights of step 6; there are those of 0, 5, 8"):
        measure(path, steps=[6])


def test_what_a_model_cannot_have_is_said_and_noted(tmp_path: Path) -> None:
    path = trained_run(tmp_path, model={"sublayers": "s", "d_model": 16, "n_heads": 2})
    (added,) = measure(path, ["qk_trace", "smear", "copying_eigenvalue"], workers=1)
    assert added.without == {
        "qk_trace": "one attention layer: there is no earlier head",
        "smear": "keys are not smeared",
    }
    assert RunDirectory(path).info.not_applicable["qk_trace"] == "one attention layer: there is no earlier head"


def test_heads_that_weights_leave_without_a_value_are_noted_with_the_rows(tmp_path: Path) -> None:
    path = trained_run(tmp_path)
    for step, head in ((0, 1), (5, 0)):
        file = path / f"snapshots/{step:08d}/weights.safetensors"
        weights = load_file(file)
        weights["sublayers.0.W_O"][head] = 0
        save_file(weights, file)
    as_saved(RunDirectory(path))
    (path / "snapshots/00000000/heads.parquet").unlink()
    (path / "tables/heads.parquet").unlink()
    (added,) = measure(path, ["copying_eigenvalue", "qk_trace"], workers=1)
    told = [f"copying_eigenvalue{form} of L0H{h}: all eigenvalues are 0" for h in (1, 0) for form in ("", "_raw")]
    assert added.without == {"copying_eigenvalue": "; ".join(told)}
    assert RunDirectory(path).info.not_applicable["copying_eigenvalue"] == "; ".join(told)
    found = load(path).read("heads", measure="copying_eigenvalue").groupby("step").size()
    assert found.to_dict() == {0: 3, 5: 3, 8: 4}


def test_what_a_model_cannot_have_of_a_measure_is_noted_too(tmp_path: Path) -> None:
    path = trained_run(tmp_path, model={"sublayers": "sf", "d_model": 16, "n_heads": 2})
    assert RunDirectory(path).info.not_applicable["path_order/single"].startswith("a feed-forward sublayer")
    (added,) = measure(path, ["path_order"], workers=1)
    assert added.without.keys() == {"path_order/single"}
    assert set(load(path).paths.path) == {"all"}


class TestGroups:
    """Induction heads are chosen once and ablated together, against sets of other heads."""

    wanted = ("group_ablation",)

    def with_heads(self, tmp_path: Path, n_heads: int, chosen: set[tuple[int, int]], monkeypatch) -> Path:
        path = trained_run(tmp_path, model={"sublayers": "ss", "d_model": 16, "n_heads": n_heads})
        monkeypatch.setattr("induction_bump.training.measured_runs.choose", lambda *a: frozenset(chosen))
        return path

    def test_the_group_and_every_matched_set_have_rows(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = self.with_heads(tmp_path, 4, {(1, 2)}, monkeypatch)
        measure(path, self.wanted, workers=1)
        rows = load(path).ablations
        assert rows["layer"].isna().all()
        assert set(rows.step) == {0, 5, 8}
        last = rows[(rows.step == 8) & (rows.quantity == "loss") & (rows.kind == "zero")]
        assert last[last.group == "induction"].draw.isna().all()
        assert sorted(last[last.group == "matched"].draw) == [0, 1, 2]
        noted = RunDirectory(path).info.groups["induction"]
        assert (noted["heads"], noted["step"], noted["no_match"]) == ([[1, 2]], 8, False)
        assert noted["matched"] == [[[1, 0]], [[1, 1]], [[1, 3]]]

    def test_they_are_chosen_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = self.with_heads(tmp_path, 4, {(1, 2)}, monkeypatch)
        measure(path, self.wanted, steps=[0], workers=1)
        monkeypatch.setattr("induction_bump.training.measured_runs.choose", lambda *a: frozenset({(0, 0)}))
        measure(path, self.wanted, workers=1)
        assert RunDirectory(path).info.groups["induction"]["heads"] == [[1, 2]]

    def test_too_few_other_heads_are_no_match(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = self.with_heads(tmp_path, 2, {(1, 0), (1, 1)}, monkeypatch)
        measure(path, self.wanted, workers=1)
        assert set(load(path).ablations.group) == {"induction"}
        assert RunDirectory(path).info.groups["induction"]["no_match"] is True

    def test_without_induction_heads_there_is_a_reason(self, tmp_path: Path) -> None:
        path = trained_run(tmp_path)
        (added,) = measure(path, self.wanted, workers=1)
        assert added.rows == 0
        assert "no head has a prefix matching of" in added.without["group_ablation"]

    def test_a_model_that_is_not_finite_at_the_end_has_a_reason(self, tmp_path: Path) -> None:
        path = trained_run(tmp_path)
        break_weights(path, 8)
        (added,) = measure(path, ["group_ablation", "zero_ablation"], workers=1)
        reason = "at step 8, where induction heads are chosen, attention patterns are not finite probabilities"
        assert added.without == {"group_ablation": reason}
        assert added.failed.keys() == {8}
        assert set(load(path).ablations.step) == {0, 5}

    def test_a_run_that_is_not_finished_has_none_yet(self, tmp_path: Path) -> None:
        path = trained_run(tmp_path)
        RunDirectory(path).update(status="preempted")
        (added,) = measure(path, self.wanted, workers=1)
        reason = "the run is preempted, and induction heads are chosen at the end of a finished one"
        assert added.without == {"group_ablation": reason}
        assert "group_ablation" not in RunDirectory(path).info.not_applicable


class TestWhatIsUndefined:
    """Measures that the weights of all heads leave without a value."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = trained_run(tmp_path)
        for snapshot in with_weights(RunDirectory(path)):
            weights = load_file(snapshot.path / WEIGHTS)
            idle = {name: torch.zeros_like(value) if "W_O" in name else value for name, value in weights.items()}
            save_file(idle, snapshot.path / WEIGHTS)
        as_saved(RunDirectory(path))
        for file in path.rglob("heads*.parquet"):
            file.unlink()
        return path

    def test_is_taken_once(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        taken: list[tuple[int, frozenset[str]]] = []
        original = measure_saved.perform

        def counted(bench: Any, task: Any) -> Any:
            taken.append((task.step, task.names))
            return original(bench, task)

        monkeypatch.setattr(measure_saved, "perform", counted)
        names = ["copying_eigenvalue", "composition_k", "previous_token"]
        (first,) = measure(path, names, workers=1)
        assert {step for step, _ in taken} == {0, 5, 8}
        assert first.without.keys() >= {"copying_eigenvalue", "composition_k"}
        undefined = RunDirectory(path).info.without_rows
        assert undefined == {"composition_k": [0, 5, 8], "copying_eigenvalue": [0, 5, 8]}
        taken.clear()
        (again,) = measure(path, names, workers=1)
        assert (taken, again.snapshots, again.rows) == ([], 0, 0)
        measure(path, [*names, "prefix_matching"], workers=1)
        assert {name for _, names in taken for name in names} == {"prefix_matching"}

    def test_is_taken_again_at_steps_that_a_training_does_again(self, path: Path) -> None:
        measure(path, ["copying_eigenvalue"], workers=1)
        kept = RunDirectory(path).info.up_to(5)
        assert kept["without_rows"] == {"copying_eigenvalue": [0, 5]}
        assert kept["weights"].keys() == {0, 5}


def test_nothing_but_the_names_of_rows_is_read_to_learn_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = trained_run(tmp_path)
    names = ["loss", "token_losses", "previous_token"]
    measure(path, names, workers=1)
    read: list[tuple[str, tuple[str, ...]]] = []
    original = pq.ParquetFile.read_row_group

    def noted(self: Any, group: int, columns: list[str], **options: Any) -> Any:
        read.append((self.schema_arrow.names[3], tuple(columns)))
        return original(self, group, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    (again,) = measure(path, names, steps=[8], workers=1)
    assert again.rows == 0
    assert {column for _, columns in read for column in columns} == {"step", "name", "measure"}
    assert {first for first, _ in read} == {"name", "example", "layer"}  # of scalars, tokens and heads


class TestForeignWeights:
    """Files of weights that are not those that training saved at their step."""

    TOLD = (
        r"00000005/weights\.safetensors: these are not the weights that were saved there \(their sha256 is another\)$"
    )

    @staticmethod
    def file(path: Path, step: int) -> Path:
        return path / f"snapshots/{step:08d}" / WEIGHTS

    def test_their_hashes_are_noted_when_they_are_saved(self, tmp_path: Path) -> None:
        path = trained_run(tmp_path)
        assert RunDirectory(path).info.weights == {step: sha256_of(self.file(path, step)) for step in (0, 5, 8)}

    @pytest.mark.parametrize("source", [0, 8])
    def test_copied_ones_are_refused(self, tmp_path: Path, source: int) -> None:
        path = trained_run(tmp_path)
        self.file(path, 5).write_bytes(self.file(path, source).read_bytes())
        with pytest.raises(RecordsError, match=self.TOLD):
            measure(path, ["zero_ablation"], workers=1)
        assert 5 not in set(load(path).ablations.step)
        (added,) = measure(path, ["zero_ablation"], steps=[0, 8], workers=1)
        assert added.failed == {}

    def test_a_group_is_not_chosen_by_them(self, tmp_path: Path) -> None:
        path = trained_run(tmp_path)
        self.file(path, 8).write_bytes(self.file(path, 5).read_bytes())
        with pytest.raises(RecordsError, match="not the weights that were saved"):
            measure(path, ["group_ablation"], workers=1)
        assert RunDirectory(path).info.groups == {}

    def test_equal_ones_and_missing_ones_are_told_of(self, tmp_path: Path) -> None:
        path = trained_run(tmp_path)
        self.file(path, 5).write_bytes(self.file(path, 0).read_bytes())
        as_saved(RunDirectory(path))
        self.file(path, 8).unlink()
        (added,) = measure(path, ["smear"], workers=1)
        assert added.doubts == ["the weights at steps 0 and 5 are the same", "the weights of step 8 are missing"]

    def test_a_run_without_hashes_is_measured_and_equal_ones_are_told_of_all_the_same(self, tmp_path: Path) -> None:
        path = trained_run(tmp_path)
        RunDirectory(path).update(weights={})
        self.file(path, 5).write_bytes(self.file(path, 0).read_bytes())
        (added,) = measure(path, ["zero_ablation"], workers=1)
        assert added.doubts == ["the weights at steps 0 and 5 are the same"]
        assert set(load(path).ablations.step) == {0, 5, 8}

    def test_of_a_run_without_hashes_only_those_that_look_like_a_measured_one_are_hashed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = trained_run(tmp_path)
        RunDirectory(path).update(weights={})
        self.file(path, 5).write_bytes(self.file(path, 0).read_bytes())
        hashed = list[Path]()
        monkeypatch.setattr(saved_weights, "sha256_of", lambda file: (hashed.append(file), sha256_of(file))[1])
        (added,) = measure(path, ["path_order"], steps=[8], workers=1)
        assert (added.snapshots, added.doubts, hashed) == (1, [], [])
        (added,) = measure(path, ["path_order"], steps=[5], workers=1)
        assert added.doubts == ["the weights at steps 0 and 5 are the same"]
        assert sorted(hashed) == [self.file(path, 0), self.file(path, 5)]

    def test_of_a_run_without_hashes_none_are_read_where_nothing_is_missing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = trained_run(tmp_path)
        RunDirectory(path).update(weights={})
        measure(path, ["path_order"], workers=1)
        opened, original = list[str](), Path.open
        monkeypatch.setattr(
            Path, "open", lambda file, *how, **more: (opened.append(file.name), original(file, *how, **more))[1]
        )
        (again,) = measure(path, ["path_order"], workers=1)
        assert again.snapshots == 0
        assert WEIGHTS not in opened

    def test_sound_ones_raise_no_doubt(self, tmp_path: Path) -> None:
        path = trained_run(tmp_path)
        (added,) = measure(path, ["smear"], workers=1)
        assert added.doubts == []
