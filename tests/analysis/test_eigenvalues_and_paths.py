"""The eigenvalue scatter and the path-order table."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from induction_bump.records.load import load
from tests.analysis.script import call_script, run_script
from tests.records.make import make_run

draw = partial(call_script, "eigenvalues_and_paths")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    make_run(root, name="two", snapshots=12, run_id="aaaa", expensive_every=1)
    make_run(root, name="two", snapshots=12, run_id="bbbb", seed=1, expensive_every=1)
    make_run(root, name="late", snapshots=12, run_id="cccc", seed=2, smeared_keys=True, expensive_every=100)
    make_run(root, name="one", sublayers="s", bump_at=None, seed=3, snapshots=9, run_id="dddd", expensive_every=1)
    return root / "study"


@pytest.fixture(scope="module")
def drawn(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("figures")
    ended = run_script("eigenvalues_and_paths", study, "--out", out)
    assert ended.returncode == 0, ended.stderr
    assert {path.name for path in out.iterdir()} == {
        f"{name}.{suffix}" for name in ("eigenvalues", "path_orders") for suffix in ("png", "svg", "csv")
    }
    return out


def test_each_head_of_a_deep_model_is_there_at_both_moments(study: Path, drawn: Path) -> None:
    table = pd.read_csv(drawn / "eigenvalues.csv")
    assert set(table["run_id"]) == {"aaaa", "bbbb", "cccc"}
    assert table.groupby(["run_id", "when"]).size().eq(8).all()
    assert table["qk_eigenvalue"].isna().eq(table["layer"] == 0).all()
    induction = table[(table["layer"] == 1) & (table["head"] == 3)]
    after = induction[induction["when"] == "after"]
    before = induction[induction["when"] == "before"]
    assert (after[["copying_eigenvalue", "qk_eigenvalue", "prefix_matching"]] > 0.5).to_numpy().all()
    assert (before["prefix_matching"] < 0.2).all()
    last = load(study).heads.groupby("run_id")["tokens"].max()
    assert after.set_index("run_id")["tokens"].equals(last.reindex(after["run_id"]))


def test_changes_add_up_to_the_loss_from_that_of_a_uniform_guess(drawn: Path) -> None:
    table = pd.read_csv(drawn / "path_orders.csv")
    ours = table[table["comparison"].isna()]
    for _, own in ours.groupby(["run_id", "when"]):
        assert own["order"].tolist() == [0, 1, 2]
        np.testing.assert_allclose(np.log(256) + own["change"].cumsum(), own["loss_up_to"], rtol=1e-5)
    published = table[table["comparison"] == "not_comparable"]
    assert published["change"].tolist() == [-1.8, -5.2, -0.3]
    assert published["run_id"].isna().all()


def test_paths_that_were_measured_at_the_end_alone_have_no_moment_before(drawn: Path) -> None:
    table = pd.read_csv(drawn / "path_orders.csv")
    moments = table[table["comparison"].isna()].groupby("run_id")["when"].unique().map(set).to_dict()
    assert moments == {"aaaa": {"before", "after"}, "bbbb": {"before", "after"}, "cccc": {"after"}}


def test_a_study_without_the_measures_is_told_what_is_missing(tmp_path: Path) -> None:
    path = make_run(tmp_path, snapshots=6, run_id="aaaa")
    ended = draw(path.parent)
    assert ended.returncode == 0, ended.stderr
    assert "not in eigenvalues: the table heads has no copying_eigenvalue, qk_eigenvalue; bump measure" in ended.stdout
    assert "not in path_orders: the table paths has no up_to" in ended.stdout
    assert not list((path.parent / "analysis").iterdir())
