"""A run's records as arrays for its page."""

from pathlib import Path

import numpy as np
import pytest

from induction_bump.records.directory import RunDirectory
from induction_bump.report.contents import head_name, read
from tests.records.make import make_run


def test_curves_and_heads_hold_what_the_tables_hold(tmp_path: Path):
    directory = RunDirectory(make_run(tmp_path, snapshots=6))
    run = read(directory)
    scalars = directory.table("scalars").to_pandas().query("name == 'loss'").sort_values("step")
    assert run.tokens.tolist() == scalars["tokens"].tolist()
    np.testing.assert_array_equal(run.scalars["loss"].values, scalars["value"])
    heads = directory.table("heads").to_pandas()
    row = heads[(heads.measure == "previous_token") & (heads.layer == 1) & (heads["head"] == 2)]
    np.testing.assert_array_equal(run.heads["previous_token"][:, 1, 2], row.sort_values("step")["value"])


def test_positions_are_laid_out_snapshot_by_position(tmp_path: Path):
    directory = RunDirectory(make_run(tmp_path, snapshots=4, context=128))
    positions = read(directory).positions
    assert positions is not None
    table = directory.table("positions").to_pandas().query("position == 7").sort_values("step")
    np.testing.assert_array_equal(positions.loss[:, 6], table["loss"])


def test_a_snapshot_without_a_value_leaves_a_gap(tmp_path: Path):
    path = make_run(tmp_path, snapshots=5, status="running")
    directory = RunDirectory(path)
    (directory.snapshots()[2].path / "heads.parquet").unlink()
    run = read(directory)
    missing = np.isnan(run.heads["prefix_matching"]).all(axis=(1, 2))
    assert missing.tolist() == [False, False, True, False, False]
    assert np.isfinite(run.scalars["loss"].values).all()


def test_null_levels_are_no_curves_and_give_the_threshold(tmp_path: Path):
    run = read(RunDirectory(make_run(tmp_path)))
    assert run.null99 == {"prefix_matching": 0.03, "previous_token": 0.06}
    assert not any(name.startswith("null99") for name in run.scalars)
    assert run.head_threshold("prefix_matching") == pytest.approx(0.10)
    assert run.head_threshold("previous_token") == pytest.approx(0.11)
    assert run.head_threshold("first_token") is None


def test_best_heads_come_best_first(tmp_path: Path):
    run = read(RunDirectory(make_run(tmp_path, sublayers="ss", n_heads=4)))
    best = run.best_heads("prefix_matching", 3)
    assert best[0][0] == "L1H3"
    assert [score for _, score in best] == sorted((score for _, score in best), reverse=True)


def test_a_model_without_attention_has_no_heads(tmp_path: Path):
    run = read(RunDirectory(make_run(tmp_path, sublayers="")))
    assert run.heads == {}
    assert run.head_names == []
    assert run.best_heads("prefix_matching", 3) == []
    assert run.n_attention == 0


def test_training_loss_is_thinned_without_losing_its_mean_or_its_ends(tmp_path: Path):
    directory = RunDirectory(make_run(tmp_path, snapshots=3, total_tokens=128 * 64 * 3000))
    table = directory.table("training").to_pandas()
    training = read(directory).training
    assert training is not None
    tokens, loss = training
    assert len(tokens) < 700 < len(table)
    assert (np.diff(tokens) > 0).all()
    assert tokens[0] == table["tokens"].min()
    assert tokens[-1] > 0.99 * table["tokens"].max()
    assert np.interp(1e7, tokens, loss) == pytest.approx(
        table["loss"][table.tokens.between(0.9e7, 1.1e7)].mean(), abs=0.1
    )


def test_head_names_count_layers_from_zero():
    assert head_name(1, 3) == "L1H3"
