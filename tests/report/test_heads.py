"""The table of all heads, the grid, and the curves of what ablations cost."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from induction_bump.records.directory import RunDirectory
from induction_bump.report.contents import RunContents, read
from induction_bump.report.curves import spread
from induction_bump.report.figures import run_axes, run_figures
from tests.records.make import make_run

Figure = dict[str, Any]


def figures(run: RunContents) -> dict[str, Figure]:
    return {figure["id"]: figure for figure in run_figures(run)}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs"), snapshots=9, expensive_every=4)


@pytest.fixture(scope="module")
def run(path: Path) -> RunContents:
    return read(RunDirectory(path))


@pytest.fixture(scope="module")
def table(run: RunContents) -> Figure:
    return figures(run)["head_table"]


def column(table: Figure, key: str) -> Figure:
    return next(column for column in table["columns"] if column["key"] == key)


def test_the_table_has_a_column_for_every_measure_of_every_head(path: Path, table: Figure):
    records = RunDirectory(path)
    measured = set(records.table("heads").column("measure").to_pylist())
    ablated = records.table("ablations").to_pandas()
    effects = set(ablated[ablated["group"].isna()][["quantity", "kind"]].agg(".".join, axis=1))
    assert {column["key"] for column in table["columns"]} == measured | effects | {"partner"}
    assert table["heads"] == [f"L{layer}H{head}" for layer in range(2) for head in range(4)]
    assert table["steps"] == sorted({int(step) for step in records.table("heads").column("step").to_pylist()})


def test_the_table_holds_what_the_records_hold_with_standard_errors(path: Path, table: Figure):
    frame = RunDirectory(path).table("ablations").to_pandas()
    chosen = frame[(frame["layer"] == 1) & (frame["head"] == 3) & (frame["kind"] == "pattern_preserving")]
    row = chosen[chosen["quantity"] == "ordered_copy_advantage"].sort_values("step").iloc[-1]
    shown = column(table, "ordered_copy_advantage.pattern_preserving")
    assert shown["values"][-1][7] == pytest.approx(row["value"], rel=1e-3)
    assert shown["stderr"][-1][7] == pytest.approx(row["stderr"], rel=1e-2)
    assert shown["unit"] == "nats per token"
    assert shown["signed"]


def test_measures_that_a_snapshot_lacks_are_gaps_there(table: Figure):
    shown = column(table, "loss.zero")
    there = [place for place, values in enumerate(shown["values"]) if any(value is not None for value in values)]
    assert there == table["whole"] == [0, 4, 8]
    assert "stderr" not in column(table, "copying_eigenvalue")


def test_other_forms_and_controls_wait_behind_the_switch(table: Figure):
    optional = {column["key"] for column in table["columns"] if column["optional"]}
    assert {"copying_eigenvalue_raw", "qk_trace_raw", "duplicate_token", "icl_score.zero"} <= optional
    shown = [column["key"] for column in table["columns"] if not column["optional"]]
    assert shown[:3] == ["prefix_matching", "previous_token", "first_token"]
    assert {"loss.zero", "loss.pattern_preserving", "icl_window_score.pattern_preserving", "partner"} <= set(shown)


def test_each_head_is_given_its_strongest_partner(path: Path, table: Figure):
    frame = RunDirectory(path).table("head_pairs").to_pandas()
    last = frame[frame["step"] == frame["step"].max()]
    shown = column(table, "partner")
    for place, name in enumerate(table["heads"]):
        layer, head = int(name[1]), int(name[3])
        writes = last[(last["layer_in"] == layer) & (last["head_in"] == head)]
        reads = last[(last["layer_out"] == layer) & (last["head_out"] == head)]
        best = max([*writes["value"], *reads["value"]])
        assert shown["values"][-1][place] == pytest.approx(best, rel=1e-3)
    assert shown["texts"][-1][0] == "→ L1H3 K"
    assert shown["texts"][-1][7] == "← L0H0 K"


def test_decimals_leave_three_figures_of_the_largest_value(table: Figure):
    assert column(table, "prefix_matching")["decimals"] == 3
    assert column(table, "ordered_copy_advantage.zero")["decimals"] == 2
    assert column(table, "qk_trace")["decimals"] == 0


def test_what_chance_gives_is_the_middle_of_the_colours(table: Figure, run: RunContents):
    assert column(table, "copying_logit")["middle"] == pytest.approx(-0.84)
    assert column(table, "copying_eigenvalue")["middle"] == 0
    grid = {measure["name"]: measure for measure in figures(run)["grid"]["measures"]}
    assert grid["copying_logit"]["middle"] == pytest.approx(-0.84)
    assert grid["copying_logit"]["signed"]
    assert not grid["prefix_matching"]["signed"]
    assert "copying_eigenvalue_raw" not in grid


def test_a_large_table_keeps_the_snapshots_where_everything_was_measured(tmp_path: Path):
    options: dict[str, Any] = {"sublayers": "s" * 12, "n_heads": 12, "snapshots": 40, "total_tokens": 2e6}
    run = read(RunDirectory(make_run(tmp_path, expensive_every=15, **options)))
    table = figures(run)["head_table"]
    assert run.ablations is not None
    assert len(table["steps"]) < len(run.steps)
    assert set(run.ablations.moments.steps) <= set(table["steps"])
    assert table["steps"][-1] == run.steps[-1]
    assert f"{len(table['steps'])} of {len(run.steps)} snapshots" in table["caption"]


def test_a_table_without_the_rest_says_which_command_takes_it(tmp_path: Path):
    path = make_run(tmp_path, snapshots=3)
    last = RunDirectory(path).snapshots()[-1].path
    assert "command" not in figures(read(RunDirectory(path)))["head_table"]["notes"][0]
    (last / "weights.safetensors").touch()
    (note,) = figures(read(RunDirectory(path)))["head_table"]["notes"]
    assert "copying eigenvalue" in note["text"]
    assert "K-composition" in note["text"]
    assert "smear" not in note["text"]
    assert note["command"] == f"bump measure {path}"


def test_what_a_model_cannot_have_stands_with_its_reason(tmp_path: Path):
    run = read(RunDirectory(make_run(tmp_path, sublayers="s", snapshots=4, expensive_every=2)))
    (note,) = figures(run)["head_table"]["notes"]
    assert note == {
        "text": "Not applicable: QK eigenvalue, QK trace, Q-composition, K-composition, V-composition "
        "(one attention layer: there is no earlier head)."
    }


def test_lost_advantage_is_the_change_with_its_sign_turned_over_its_own_axis(run: RunContents):
    lost = figures(run)["lost"]
    assert lost["legend"][0]["label"] == "L1H3"
    trace = next(trace for trace in lost["traces"] if trace["name"] == "L1H3")
    assert trace["x"] == "ablations"
    assert len(trace["y"]) == len(run_axes(run)["ablations"]) == 3
    assert run.ablations is not None
    change = run.ablations.heads["pattern_preserving", "ordered_copy_advantage"]
    np.testing.assert_allclose(trace["y"], -change.values[:, 1, 3], atol=1e-4)
    np.testing.assert_allclose(trace["band"], 2 * change.stderr[:, 1, 3], atol=1e-4)


def test_a_head_has_one_colour_in_all_figures(tmp_path: Path):
    drawn = figures(read(RunDirectory(make_run(tmp_path, sublayers="sss", n_heads=6, snapshots=6, expensive_every=2))))
    colours: dict[str, set[str]] = {}
    for name in ("prefix_matching", "previous_token", "lost"):
        for entry in drawn[name]["legend"]:
            colours.setdefault(entry["label"], set()).add(f"{entry['color']} {entry['dash']}")
    assert {"L0H0", "L2H5"} <= set(colours)
    assert all(len(found) == 1 for label, found in colours.items() if label.startswith("L"))


@pytest.mark.parametrize(("count", "most"), [(1, 5), (5, 5), (200, 7), (3, 1)])
def test_thinned_snapshots_begin_and_end_with_the_first_and_the_last(count: int, most: int):
    kept = spread(count, most)
    assert kept[0] == 0
    assert kept[-1] == count - 1
    assert len(kept) <= max(2, most)
    assert (np.diff(kept) > 0).all()


def test_tables_of_interventions_do_not_need_scores(path: Path, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(path, copy)
    for part in [copy / "tables" / "heads.parquet", *copy.glob("snapshots/*/heads.parquet")]:
        part.unlink()
    drawn = figures(read(RunDirectory(copy)))
    assert "empty" not in drawn["lost"]
    assert "empty" not in drawn["composition"]
    assert "Head scores are not in these records." in drawn["head_table"]["empty"]
