"""Tables that are there at some snapshots only, as arrays for the page."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from induction_bump.records.directory import RunDirectory
from induction_bump.records.frames import rows
from induction_bump.report.contents import RunContents, read
from induction_bump.report.sparse import read_ablations, read_pairs, read_paths
from tests.records.make import make_run


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return RunDirectory(make_run(tmp_path_factory.mktemp("runs"), snapshots=8, expensive_every=3))


@pytest.fixture(scope="module")
def run(directory: RunDirectory) -> RunContents:
    return read(directory)


def only(frame: pd.DataFrame, **equals: object) -> pd.DataFrame:
    for column, value in equals.items():
        frame = frame[frame[column] == value]
    return frame.sort_values("step")


def test_composition_is_laid_out_by_snapshot_writer_and_reader(directory: RunDirectory, run: RunContents):
    assert run.pairs is not None
    rows_of_pair = only(directory.table("head_pairs").to_pandas(), kind="k", head_in=0, head_out=3)
    assert run.pairs.moments.steps.tolist() == rows_of_pair["step"].tolist()
    assert run.pairs.moments.tokens.tolist() == rows_of_pair["tokens"].tolist()
    np.testing.assert_allclose(run.pairs.values["k"][:, 0, 0, 1, 3], rows_of_pair["value"], rtol=1e-6)
    assert np.isnan(run.pairs.values["k"][:, 1, :, 0, :]).all()
    assert run.pairs.baseline == {"q": 0.125, "k": 0.125, "v": 0.125}


def test_ablations_of_heads_and_of_groups_are_kept_apart(directory: RunDirectory, run: RunContents):
    assert run.ablations is not None
    table = directory.table("ablations").to_pandas()
    head = only(table, layer=1, head=3, kind="zero", quantity="loss")
    found = run.ablations.heads["zero", "loss"]
    np.testing.assert_array_equal(found.values[:, 1, 3], head["value"])
    np.testing.assert_array_equal(found.stderr[:, 1, 3], head["stderr"])
    draw = only(table, group="matched", draw=2, kind="pattern_preserving", quantity="icl_score")
    matched = run.ablations.groups["matched", "pattern_preserving", "icl_score"]
    assert matched.values.shape == (len(draw), 3)
    np.testing.assert_array_equal(matched.values[:, 2], draw["value"])
    assert run.ablations.groups["induction", "zero", "loss"].values.shape == (len(draw), 1)


def test_losses_of_orders_and_changes_by_paths_are_kept_apart(directory: RunDirectory, run: RunContents):
    assert run.paths is not None
    table = directory.table("paths").to_pandas()
    np.testing.assert_array_equal(run.paths.up_to.values[:, 2], only(table, how="up_to", order=2)["value"])
    assert run.paths.orders.tolist() == [0, 1, 2]
    assert len(run.paths.names) == 1 + 8 + 16
    assert "all" not in run.paths.names
    place = run.paths.names.index("L0H1→L1H2")
    for how, found in (("added", run.paths.added), ("removed", run.paths.removed)):
        np.testing.assert_array_equal(found.values[:, place], only(table, how=how, path="L0H1→L1H2")["value"])


def test_only_the_snapshots_of_a_table_are_its_moments(run: RunContents):
    assert run.ablations is not None
    assert 1 < len(run.ablations.moments.steps) < len(run.steps)
    assert run.ablations.moments.steps[-1] == run.steps[-1]


def test_a_quantity_that_a_snapshot_lacks_leaves_a_gap():
    def row(step: int, quantity: str) -> dict[str, list[object]]:
        values = (0, 0, None, None, "zero", quantity, 0.5, None)
        names = ("layer", "head", "group", "draw", "kind", "quantity", "value", "stderr")
        return {name: [value] for name, value in zip(names, values, strict=True)}

    entries = [(0, "loss"), (5, "loss"), (5, "icl_score")]
    table = pa.concat_tables([rows("ablations", "r", step, 10 * step, row(step, what)) for step, what in entries])
    found = read_ablations(table)
    assert found is not None
    np.testing.assert_array_equal(found.heads["zero", "icl_score"].values[:, 0, 0], [np.nan, 0.5])
    assert np.isnan(found.heads["zero", "loss"].stderr).all()


def test_heads_without_pairs_keep_their_place(directory: RunDirectory):
    pairs = read_pairs(directory.table("head_pairs"), (2, 6))
    assert pairs is not None
    assert pairs.values["q"].shape[1:] == (2, 6, 2, 6)
    assert np.isnan(pairs.values["q"][:, :, 4:]).all()


def test_empty_tables_are_none(tmp_path: Path):
    directory = RunDirectory(make_run(tmp_path, snapshots=2))
    assert read_pairs(directory.table("head_pairs")) is None
    assert read_ablations(directory.table("ablations")) is None
    assert read_paths(directory.table("paths")) is None
