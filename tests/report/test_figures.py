"""What the figures of a run and of a study hold."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from induction_bump.records.directory import RunDirectory
from induction_bump.report.contents import RunContents, read
from induction_bump.report.figures import run_axes, run_figures
from induction_bump.report.study import differences, event_names, key_of, labels, study_axes, study_figures
from tests.records.make import make_run


def contents(tmp_path: Path, **options: Any) -> RunContents:
    return read(RunDirectory(make_run(tmp_path, **options)))


def by_id(figures: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {figure["id"]: figure for figure in figures}


def test_every_curve_has_a_point_for_each_moment_of_its_axis(tmp_path: Path):
    run = contents(tmp_path, snapshots=8, expensive_every=3)
    axes = run_axes(run)
    traces = [trace for figure in run_figures(run) for trace in figure.get("traces", [])]
    assert len(traces) > 25
    assert all(len(trace["y"]) == len(axes[trace["x"]]) for trace in traces)


def test_every_figure_says_what_it_is(tmp_path: Path):
    for figure in run_figures(contents(tmp_path, snapshots=4, expensive_every=2)):
        assert figure["title"]
        assert figure["caption"].endswith(".")
        assert figure["kind"] != "time" or figure["y"]


def test_every_curve_can_be_switched_by_a_legend_entry(tmp_path: Path):
    for figure in run_figures(contents(tmp_path, snapshots=4, sublayers="sss", n_heads=6, expensive_every=2)):
        if figure["kind"] == "time":
            assert {trace["legendgroup"] for trace in figure["traces"]} == {entry["key"] for entry in figure["legend"]}


def test_the_icl_caption_says_which_sign_means_more(tmp_path: Path):
    caption = by_id(run_figures(contents(tmp_path, snapshots=3)))["icl"]["caption"]
    assert "Late minus early" in caption
    assert "more negative means more in-context learning" in caption


def test_bands_are_two_standard_errors(tmp_path: Path):
    run = contents(tmp_path, snapshots=3)
    (trace,) = (t for t in by_id(run_figures(run))["loss"]["traces"] if t["name"] == "held-out")
    np.testing.assert_allclose(trace["band"], 2 * run.scalars["loss"].stderr, atol=1e-4)


def test_the_heat_map_is_binned_so_that_it_stays_small(tmp_path: Path):
    run = contents(tmp_path, snapshots=3, context=512)
    field = by_id(run_figures(run))["positions"]
    assert run.positions is not None
    assert len(field["z"]) == 128
    assert field["edges"][:2] == [1, 5]
    assert field["edges"][-1] == 513
    assert field["labels"][1] == "5–8"
    assert field["z"][1][2] == pytest.approx(run.positions.loss[2, 4:8].mean(), abs=1e-3)


def test_few_positions_are_not_binned(tmp_path: Path):
    field = by_id(run_figures(contents(tmp_path, snapshots=3, context=100)))["positions"]
    assert field["labels"] == [str(position) for position in range(1, 101)]


def test_the_best_heads_are_named_and_the_others_muted(tmp_path: Path):
    figure = by_id(run_figures(contents(tmp_path, sublayers="sss", n_heads=6)))["prefix_matching"]
    assert figure["legend"][0]["label"] == "L2H5"
    assert figure["legend"][-1]["label"] == f"{18 - (len(figure['legend']) - 1)} other heads"
    muted = [trace for trace in figure["traces"] if trace["legendgroup"] == "heads:other"]
    assert {trace["line"]["color"] for trace in muted} == {"--quiet"}
    assert len(figure["traces"]) == 18


def test_null_level_and_threshold_are_drawn_with_the_heads(tmp_path: Path):
    lines = by_id(run_figures(contents(tmp_path, snapshots=3)))["previous_token"]["lines"]
    assert lines == [
        {"y": 0.06, "label": "null99", "dash": "dash"},
        {"y": 0.11, "label": "event threshold", "dash": "dot"},
    ]


def test_the_copy_threshold_is_no_more_than_half_of_what_can_be_gained(tmp_path: Path):
    run = contents(tmp_path, snapshots=3)
    lines = by_id(run_figures(run))["copy"]["lines"]
    assert lines[0]["y"] == pytest.approx(min(2.0, np.log(200) / 2), abs=1e-3)
    run.info.probes["repeats"]["pool"] = 20
    assert by_id(run_figures(run))["copy"]["lines"][0]["y"] == pytest.approx(np.log(20) / 2, abs=1e-3)


def test_the_head_grid_holds_each_measure_at_each_snapshot(tmp_path: Path):
    run = contents(tmp_path, snapshots=5, sublayers="ss", n_heads=4)
    grid = by_id(run_figures(run))["grid"]
    assert (grid["layers"], grid["heads"]) == (2, 4)
    assert [measure["name"] for measure in grid["measures"]][:3] == ["prefix_matching", "previous_token", "first_token"]
    last = grid["measures"][0]["values"][-1]
    assert last[1 * 4 + 3] == pytest.approx(run.heads["prefix_matching"][-1, 1, 3], abs=1e-3)


@pytest.mark.parametrize("figure_id", ["prefix_matching", "previous_token", "grid"])
def test_a_model_without_attention_says_so_instead_of_an_empty_figure(tmp_path: Path, figure_id: str):
    figure = by_id(run_figures(contents(tmp_path, sublayers="", snapshots=3)))[figure_id]
    assert "no attention layer" in figure["empty"]


def test_runs_of_a_study_share_key_and_colour_in_all_figures(tmp_path: Path):
    runs = [contents(tmp_path, name=name, snapshots=4) for name in ("first", "second")]
    figures = study_figures(runs, [None, None])
    assert len(figures) == 6
    for figure in figures:
        assert [trace["legendgroup"] for trace in figure["traces"]] == [key_of(run) for run in runs]
        assert [trace["line"]["color"] for trace in figure["traces"]] == ["--series-0", "--series-1"]
        assert all(len(trace["y"]) == len(study_axes(runs)[trace["x"]]) for trace in figure["traces"])


def test_a_study_shows_the_best_head_at_each_snapshot_by_name(tmp_path: Path):
    run = contents(tmp_path, snapshots=6)
    trace = by_id(study_figures([run], [None]))["prefix_matching"]["traces"][0]
    assert trace["y"][-1] == pytest.approx(run.heads["prefix_matching"][-1].max(), abs=1e-4)
    assert trace["text"][-1] == "L1H3"


def test_runs_of_one_name_are_told_apart(tmp_path: Path):
    runs = [contents(tmp_path, name="same", run_id=run_id, snapshots=2) for run_id in ("aaaaaaaa", "bbbbbbbb")]
    assert labels(runs) == ["same aaaaaa", "same bbbbbb"]


def test_only_config_values_that_differ_are_compared(tmp_path: Path):
    runs = [contents(tmp_path, name=name, sublayers=name, snapshots=2) for name in ("s", "ss")]
    assert differences(runs) == {"model.sublayers": ["s", "ss"]}


def test_the_table_has_no_column_for_events_nobody_asked_for():
    assert event_names([None, []]) == []
