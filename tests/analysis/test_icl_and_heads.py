"""The figure of a study."""

from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from tests.analysis.script import call_script, run_script
from tests.records.make import make_run

draw = partial(call_script, "icl_and_heads")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with a bump, without one, and without heads."""
    root = tmp_path_factory.mktemp("runs")
    make_run(root, name="two-layer", snapshots=12, run_id="aaaa")
    make_run(root, name="one-layer", sublayers="s", bump_at=None, seed=1, snapshots=9, run_id="bbbb")
    make_run(root, name="bigram", sublayers="", bump_at=None, seed=2, snapshots=9, run_id="cccc")
    return root / "study"


def test_png_and_csv_lie_beside_each_other_in_the_study(study: Path):
    ended = draw(study)
    assert ended.returncode == 0, ended.stderr
    png = study / "analysis" / "icl_and_heads.png"
    assert png.read_bytes().startswith(b"\x89PNG")
    assert png.stat().st_size > 20_000
    rows = pd.read_csv(png.with_suffix(".csv"))
    quantities = rows.groupby("run").quantity.unique().map(set).to_dict()
    scalars = {"icl_window_score", "ordered_copy_advantage"}
    assert quantities == {
        "two-layer-aaaa": {*scalars, "prefix_matching"},
        "one-layer-bbbb": {*scalars, "prefix_matching"},
        "bigram-cccc": scalars,
    }
    assert not rows.duplicated(["run_id", "step", "quantity"]).any()
    last = rows[(rows.run_id == "aaaa") & (rows.quantity == "prefix_matching")].iloc[-1]
    assert (last["head"], last["value"] > 0.8) == ("L1H3", True)
    assert set(rows.label) == {"two layers", "one layer", "no layer"}


def test_it_writes_where_it_is_told_and_nothing_else(study: Path, tmp_path: Path):
    before = {p for p in study.rglob("*") if p.parent.name != "analysis" and p.name != "analysis"}
    ended = draw(study / "two-layer-aaaa", "--out", tmp_path / "figures", "--scale", "linear")
    assert ended.returncode == 0, ended.stderr
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == ["icl_and_heads.csv", "icl_and_heads.png"]
    assert {p for p in study.rglob("*") if p.parent.name != "analysis" and p.name != "analysis"} == before


def test_it_loads_no_torch(study: Path, tmp_path: Path):
    ended = run_script("icl_and_heads", study, "--out", tmp_path)
    assert ended.returncode == 0, ended.stderr
