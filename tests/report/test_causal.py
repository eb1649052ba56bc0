"""Composition, eigenvalues, groups of heads and path order as figures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow.parquet as pq
import pytest

from induction_bump.measures.options import Expensive
from induction_bump.records.directory import RunDirectory
from induction_bump.report.contents import RunContents, read
from induction_bump.report.figures import run_figures
from tests.records.make import make_run

Figure = dict[str, Any]


def figures(run: RunContents) -> dict[str, Figure]:
    return {figure["id"]: figure for figure in run_figures(run)}


def keep(directory: RunDirectory, table: str, column: str, wanted: Callable[[Any], bool]) -> None:
    """Leave only some rows of a finished run's table."""
    whole = directory.table(table)
    pq.write_table(
        whole.filter([wanted(value) for value in whole.column(column).to_pylist()]),
        directory.path / "tables" / f"{table}.parquet",
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunContents:
    return read(
        RunDirectory(make_run(tmp_path_factory.mktemp("runs"), sublayers="sss", snapshots=9, expensive_every=4))
    )


@pytest.fixture(scope="module")
def drawn(run: RunContents) -> dict[str, Figure]:
    return figures(run)


def test_composition_holds_every_pair_in_thousandths_readers_by_their_writers(
    run: RunContents, drawn: dict[str, Figure]
):
    figure = drawn["composition"]
    assert run.pairs is not None
    assert [kind["name"] for kind in figure["kinds"]] == ["Q", "K", "V"]
    assert figure["writers"] == [f"L{layer}H{head}" for layer in (0, 1) for head in range(4)]
    assert figure["readers"] == [f"L{layer}H{head}" for layer in (1, 2) for head in range(4)]
    rows = figure["kinds"][1]["values"][-1]
    assert [len(row) for row in rows] == [4] * 4 + [8] * 4
    for y, reader in enumerate(figure["readers"]):
        for x, value in enumerate(rows[y]):
            writer = figure["writers"][x]
            exact = run.pairs.values["k"][-1, int(writer[1]), int(writer[3]), int(reader[1]), int(reader[3])]
            assert value == pytest.approx(1000 * exact, abs=0.51)


def test_composition_has_one_range_of_colours_and_names_its_baseline(run: RunContents, drawn: dict[str, Figure]):
    assert run.pairs is not None
    most = max(np.nanmax(np.abs(values)) for values in run.pairs.values.values())
    assert drawn["composition"]["range"] == pytest.approx(most, abs=1e-3)
    assert "Random factors alone give 0.125." in drawn["composition"]["caption"]
    assert drawn["composition"]["steps"] == run.pairs.moments.steps.tolist()


def test_eigenvalues_are_drawn_for_heads_that_have_both(run: RunContents, drawn: dict[str, Figure]):
    figure = drawn["eigenvalues"]
    assert figure["names"] == [f"L{layer}H{head}" for layer in (1, 2) for head in range(4)]
    assert figure["x"][-1][-1] == pytest.approx(run.heads["copying_eigenvalue"][-1, 2, 3], abs=1e-3)
    assert figure["y"][-1][-1] == pytest.approx(run.heads["qk_eigenvalue"][-1, 2, 3], abs=1e-3)
    assert figure["colour"][-1][-1] == pytest.approx(run.heads["prefix_matching"][-1, 2, 3], abs=1e-3)
    assert figure["named_from"] == pytest.approx(0.1)


def test_the_group_stands_against_the_range_of_its_matched_sets(run: RunContents, drawn: dict[str, Figure]):
    figure = drawn["group"]
    assert run.ablations is not None
    matched, together = figure["traces"]
    draws = -run.ablations.groups["matched", "pattern_preserving", "ordered_copy_advantage"].values
    np.testing.assert_allclose(matched["y"], np.median(draws, axis=1), atol=1e-4)
    np.testing.assert_allclose(matched["between"], [draws.min(axis=1), draws.max(axis=1)], atol=1e-4)
    assert together["y"][-1] == pytest.approx(3, abs=0.1)
    assert "Heads: L2H3, chosen at step 200" in figure["caption"]
    assert [entry["label"] for entry in figure["legend"]] == [
        "induction heads together",
        "3 matched sets: median and range",
    ]


def test_a_group_that_leaves_no_matched_set_says_so(tmp_path: Path):
    directory = RunDirectory(make_run(tmp_path, snapshots=3, expensive_every=1))
    keep(directory, "ablations", "group", lambda group: group != "matched")
    chosen = directory.info.groups["induction"]
    directory.update(groups={"induction": chosen | {"no_match": True}})
    figure = figures(read(directory))["group"]
    assert len(figure["traces"]) == 1
    assert "Too few other heads are left" in figure["caption"]


def test_a_run_without_induction_heads_says_so(tmp_path: Path):
    directory = RunDirectory(make_run(tmp_path, snapshots=3, expensive_every=1))
    directory.update(groups={"induction": {"step": 1234, "heads": [], "threshold": 0.1}})
    assert figures(read(directory))["group"]["empty"] == "No head counted as an induction head at step 1,234."


def test_paths_are_ranked_by_what_they_change_and_positive_where_they_help(run: RunContents, drawn: dict[str, Figure]):
    figure = drawn["paths"]
    assert run.paths is not None
    assert figure["orders"] == [0, 1, 2, 3]
    np.testing.assert_allclose(figure["loss"][-1], run.paths.up_to.values[-1], rtol=1e-3)
    last = figure["paths"][-1]
    assert last["names"][0] == "L2H3"
    assert "direct" not in last["names"]
    place = run.paths.names.index("L2H3")
    assert last["lost"][0] == pytest.approx(run.paths.removed.values[-1, place], rel=1e-3)
    assert last["saved"][0] == pytest.approx(-run.paths.added.values[-1, place], rel=1e-3)
    size = [max(abs(lost), abs(saved)) for lost, saved in zip(last["lost"], last["saved"], strict=True)]
    assert size == sorted(size, reverse=True)
    assert figure["ends"][0] <= min(last["lost"] + last["saved"]) + 1e-4
    assert figure["ends"][1] >= max(last["lost"] + last["saved"]) - 1e-4


def test_a_model_whose_paths_are_not_defined_still_shows_its_orders(tmp_path: Path):
    directory = RunDirectory(make_run(tmp_path, sublayers="sfsf", snapshots=3, expensive_every=1))
    keep(directory, "paths", "how", lambda how: how == "up_to")
    figure = figures(read(directory))["paths"]
    assert figure["paths"] == []
    assert len(figure["loss"][0]) == 3
    assert "attention-only" in figure["caption"]


@pytest.mark.parametrize(
    ("figure_id", "measures"),
    [
        ("composition", "composition_q,composition_k,composition_v"),
        ("lost", "pattern_preserving_ablation"),
        ("paths", "path_order"),
    ],
)
def test_an_empty_figure_names_the_command_that_fills_it(tmp_path: Path, figure_id: str, measures: str):
    path = make_run(tmp_path, snapshots=2)
    assert "no snapshot kept its weights" in figures(read(RunDirectory(path)))[figure_id]["empty"]
    (RunDirectory(path).snapshots()[0].path / "weights.safetensors").touch()
    figure = figures(read(RunDirectory(path)))[figure_id]
    assert figure["command"] == f"bump measure {path} --measures {measures}"
    assert set(measures.split(",")) <= set(get_args(Expensive))


@pytest.mark.parametrize("figure_id", ["composition", "eigenvalues"])
def test_one_layer_says_why_it_has_no_pairs(tmp_path: Path, figure_id: str):
    figure = figures(read(RunDirectory(make_run(tmp_path, sublayers="s", snapshots=3, expensive_every=1))))[figure_id]
    assert figure["empty"] == "Not applicable to this model: one attention layer: there is no earlier head."


def test_a_run_that_goes_on_does_not_ask_to_be_measured(tmp_path: Path):
    figure = figures(read(RunDirectory(make_run(tmp_path, snapshots=2, status="running"))))["composition"]
    assert "once the run has ended" in figure["empty"]
    assert "command" not in figure
