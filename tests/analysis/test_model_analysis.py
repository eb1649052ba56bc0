"""The model-analysis table: its pages, and the numbers in it."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from induction_bump.locate.run import find
from induction_bump.records.directory import RunDirectory
from induction_bump.records.load import load
from tests.analysis.script import call_script, run_script
from tests.analysis.test_head_table import add_ablated_tokens
from tests.records.make import make_run

sys.path.insert(0, str(Path(__file__).parents[2] / "analysis"))
import head_table


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    path = make_run(root, name="two-layer", snapshots=12, run_id="aaaa", expensive_every=1)
    for place in (-1, -3):
        add_ablated_tokens(RunDirectory(path), place, label=f"made{place}")
    make_run(root, name="one-layer", sublayers="s", bump_at=None, seed=1, snapshots=9, run_id="bbbb")
    make_run(root, name="bigram", sublayers="", bump_at=None, seed=2, snapshots=9, run_id="cccc")
    make_run(root, name="unmeasured", seed=3, snapshots=9, run_id="dddd")
    RunDirectory(root / "study" / "one-layer-bbbb").update(not_applicable={"qk_trace": "there is no earlier head"})
    return root / "study"


@pytest.fixture(scope="module")
def rows(study: Path) -> pd.DataFrame:
    ended = run_script("model_analysis", study)
    assert ended.returncode == 0, ended.stderr
    assert "wrote 2 pages" in ended.stdout
    names = sorted(path.name for path in (study / "analysis").iterdir())
    assert names == [
        "model_analysis-1.png",
        "model_analysis-1.svg",
        "model_analysis-2.png",
        "model_analysis-2.svg",
        "model_analysis.csv",
    ]
    return pd.read_csv(study / "analysis" / "model_analysis.csv")


def test_every_run_has_the_panels_it_has_records_for(rows: pd.DataFrame) -> None:
    always = {"loss", "loss_by_position", "loss_slope", "position_slope", "icl_score", "components"}
    panels = rows.groupby("run_id")["panel"].unique().map(set).to_dict()
    assert panels == {
        "aaaa": always | {"prefix_matching", "qk_trace", "before_and_after", "ablated_icl"},
        "bbbb": always | {"prefix_matching"},
        "cccc": always,
        "dddd": always | {"prefix_matching"},
    }


def test_a_panel_without_records_says_why(study: Path, rows: pd.DataFrame) -> None:
    drawn = "".join((study / "analysis" / f"model_analysis-{page}.svg").read_text() for page in (1, 2))
    # long reasons are broken into lines, of which the SVG keeps each as a comment
    for beginning in ("there is no earlier", "no change was located", "the table heads"):
        assert f"<!-- {beginning}" in drawn, beginning


def test_the_numbers_are_those_of_the_records(study: Path, rows: pd.DataFrame) -> None:
    own = rows[rows["run_id"] == "aaaa"]
    recorded = load(study / "two-layer-aaaa").read("heads", measure="prefix_matching")
    np.testing.assert_allclose(own.loc[own["panel"] == "prefix_matching", "value"], recorded["value"], rtol=1e-5)
    loss = load(study / "two-layer-aaaa").read("scalars", name="loss")
    drop = own[own["panel"] == "loss_slope"]
    assert drop["step"].tolist() == loss.loc[loss["tokens"] > 0, "step"].tolist()
    assert drop["value"].min() < -0.05


def test_attribution_over_training_agrees_with_the_head_table_where_both_have_it(
    study: Path, rows: pd.DataFrame
) -> None:
    records = load(study / "two-layer-aaaa")
    events = find(study / "two-layer-aaaa").table
    found = events[events["found"]]
    start, end = int(found["tokens_low"].min()), int(found["tokens_high"].max())
    last = int(records.tokens["tokens"].max())
    expected = head_table.attribution(records, "aaaa", start, end, last)
    ours = rows[(rows["panel"] == "before_and_after") & (rows["tokens"] == last)]
    np.testing.assert_allclose(ours["value"], expected["attribution"], rtol=1e-4)
    measured = set(records.ablated_tokens["tokens"])
    assert len(measured) == 2
    assert set(rows.loc[rows["panel"] == "before_and_after", "tokens"]) == measured - {start, end}


def test_only_the_runs_asked_for_are_drawn(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Figure, "savefig", lambda *_: None)  # the table tells
    ended = call_script("model_analysis", study, "--run", "cccc", "one-layer-bbbb", "--out", tmp_path, "--scale", "log")
    assert ended.returncode == 0, ended.stderr
    assert set(pd.read_csv(tmp_path / "model_analysis.csv")["run_id"]) == {"bbbb", "cccc"}
    refused = call_script("model_analysis", study, "--run", "eeee", "--out", tmp_path)
    assert (refused.returncode, "none of eeee" in refused.stderr) == (2, True)
