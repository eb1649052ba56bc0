"""The scripts that link the bump to treatments, heads, sizes and claims, on a small study of several seeds."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.markers import MarkerStyle

from induction_bump.locate.run import locate
from induction_bump.records.schema import RecordsError
from tests.linking.studies import END, made_study, paired
from tests.records.make import make_run

sys.path.insert(0, str(Path(__file__).parents[2] / "analysis"))
import bump_law
import causal_share
import claims
import depth_and_size
import precursor
import treatments
from times_by_cell import by_cell, in_order, times_by_cell

SCRIPTS = Path(treatments.__file__).parent
SEEDS = 3


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers with plain and with smeared keys, which are earlier, and one layer without a bump."""
    root = tmp_path_factory.mktemp("runs")
    small = {"total_tokens": 1e6, "snapshots": 16}
    for seed in range(SEEDS):
        at = 0.2e6 * (1 + 0.6 * seed)
        make_run(root, name=f"two{seed}", seed=seed, run_id=f"a{seed}", bump_at=at, expensive_every=5, **small)
        smeared = {"bump_at": 0.3 * at, "smeared_keys": True}
        make_run(root, name=f"smeared{seed}", seed=seed, run_id=f"b{seed}", **smeared, **small)
    make_run(root, name="one", sublayers="s", bump_at=None, run_id="c0", **small)
    locate(root / "study", changes=False)
    return root / "study"


def is_picture(png: Path) -> bool:
    return png.read_bytes().startswith(b"\x89PNG") and "<svg" in png.with_suffix(".svg").read_text()[:1000]


def test_treatments_are_compared_with_the_same_model_without_them(study: Path, tmp_path: Path, capsys):
    assert is_picture(treatments.main([str(study), "--out", str(tmp_path)]))
    found = pd.read_csv(tmp_path / "treatments.csv").set_index("cell")
    assert found["reference"].to_dict() == {"ss, smeared keys": "ss", "s": "ss"}
    smeared = found.loc["ss, smeared keys"]
    assert smeared["ratio_low"] < 0.3 < smeared["ratio_high"]
    assert (smeared["p"], smeared["smallest"]) == pytest.approx((0.1, 0.1))
    assert smeared["direction"] == "cannot tell"
    assert smeared["seeds_needed"] >= 4
    times = pd.read_csv(tmp_path / "treatments_times.csv")
    assert times["state"].value_counts().to_dict() == {"located": 2 * SEEDS, "after": 1}
    assert "5 runs a cell are the least to tell" in capsys.readouterr().out


def marked(axes: Axes, marker: str) -> list[list[float]]:
    """Where points with this marker are."""
    style = MarkerStyle(marker)
    shape = style.get_path().transformed(style.get_transform()).vertices
    return [
        place
        for drawn in axes.collections
        if [np.array_equal(path.vertices, shape) for path in drawn.get_paths()] == [True]
        for place in np.asarray(drawn.get_offsets()).tolist()
    ]


def test_runs_of_which_only_a_bound_is_known_are_marked_on_its_open_side():
    """A bump from the start has no place on a logarithmic axis, and stands where the first other run is known."""
    kinds = {"a": ["left_censored"] * 2, "b": [(2e5, 4e5), "left_censored"], "c": [(3e5, 5e5), None], "d": [None] * 2}
    cells = {name: {"training.batch_sequences": batch} for batch, name in enumerate(kinds, 1)}
    rows, _ = by_cell(made_study(paired(cells, kinds)), "icl")
    order = in_order(rows)
    assert order == [f"batch {batch}" for batch in (1, 2, 3, 4)]
    _, axes = plt.subplots()
    times_by_cell(axes, rows, order)
    assert [x for x, _ in marked(axes, "<")] == [2e5] * 3
    assert [x for x, _ in marked(axes, ">")] == [END] * 3
    assert len(marked(axes, "o")) == 2
    assert [text.get_text() for text in axes.get_legend().get_texts()][2:] == ["not by then", "from the start"]


def test_an_unknown_cell_or_an_unlocated_study_is_a_usage_error(study: Path, tmp_path: Path, capsys):
    with pytest.raises(SystemExit) as stopped:
        treatments.main([str(study), "--reference", "nobody", "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert "there are: " in capsys.readouterr().err
    fresh = make_run(tmp_path, snapshots=4, total_tokens=1e5).parent
    for script in (treatments, precursor, depth_and_size, bump_law, claims):
        with pytest.raises(RecordsError, match="nothing was located here; `bump locate"):
            script.main([str(fresh)])
    assert not (fresh / "analysis").exists()


@pytest.mark.parametrize(
    "script", sorted(path.stem for path in SCRIPTS.glob("*.py") if "def main(" in path.read_text())
)
def test_a_study_that_is_not_there_is_told_in_one_line(script: str, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "nowhere"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{script}.py: nowhere: no such directory")
    assert said.count("\n") == 1


def test_a_study_in_which_nothing_could_happen_has_no_times(tmp_path: Path):
    run = make_run(tmp_path, sublayers="", bump_at=None, snapshots=12)
    locate(run, changes=False)
    with pytest.raises(RecordsError, match="of no run is known when"):
        treatments.main([str(run), "--event", "prefix_matching"])


def test_the_precursor_stands_beside_the_bump_in_each_run(study: Path, tmp_path: Path, capsys):
    assert is_picture(precursor.main([str(study), "--out", str(tmp_path)]))
    rows = pd.read_csv(tmp_path / "precursor.csv")
    assert len(rows) == 2 * SEEDS
    np.testing.assert_allclose(np.exp(rows["log_ratio"]), rows["icl"] / rows["previous_token"])
    assert (rows["log_ratio_low"] <= rows["log_ratio"]).all()
    assert "rank correlation within cells, 6 runs" in capsys.readouterr().out


def test_sizes_are_the_same_or_not(study: Path, tmp_path: Path):
    assert is_picture(depth_and_size.main([str(study), "--out", str(tmp_path), "--margin", "0.2"]))
    (pair,) = pd.read_csv(tmp_path / "depth_and_size_same.csv").to_dict("records")
    assert (pair["one"], pair["other"], pair["verdict"]) == ("ss", "ss, smeared keys", "same")
    rows = pd.read_csv(tmp_path / "depth_and_size.csv")
    assert (rows["score_end"] < -1.0).sum() == 2 * SEEDS
    with pytest.raises(SystemExit):
        depth_and_size.main([str(study), "--margin", "0"])


def test_what_is_lost_without_induction_heads_over_training(study: Path, tmp_path: Path, capsys):
    assert is_picture(causal_share.main([str(study), "--out", str(tmp_path)]))
    rows = pd.read_csv(tmp_path / "causal_share.csv")
    assert rows["run_id"].nunique() == SEEDS
    last = rows[rows["step"] == rows["step"].max()]
    assert (last["lost"] > 0.5).all()
    assert "ss, 3 runs: " in (said := capsys.readouterr().out)
    assert "without as many other heads" in said
    with pytest.raises(SystemExit):
        causal_share.main([str(study / "one-c0"), "--out", str(tmp_path)])
    assert "bump measure" in capsys.readouterr().err


def on_a_law(instead: dict[str, dict[int, object]]):
    """A study with exponents ½ of the batch and ¼ of the context, but for some runs: setting → seed → what is known."""
    cells, times = {}, {}
    for batch in (8, 16, 32):
        for context in (128, 512):
            name = f"{batch}x{context}"
            cells[name] = {"training.batch_sequences": batch, "data.context": context}
            middle = 5e4 * batch**0.5 * context**0.25
            times[name] = [(middle * (0.95 + 0.02 * seed), middle * (1.01 + 0.02 * seed)) for seed in range(3)]
            for seed, known in instead.get(name, {}).items():
                times[name][seed] = known
    return made_study(paired(cells, times))


def test_the_law_is_fitted_over_what_varies():
    """One run of the largest setting ended before its bump."""
    rows, law = bump_law.gather(on_a_law({"32x512": {2: None}}), "icl")
    assert (law.n, law.censored) == (18, 1)
    fitted = bump_law.as_table(law).set_index("name")
    assert fitted.index.tolist() == ["intercept", "batch", "context"]
    assert fitted.loc["batch", "value"] == pytest.approx(0.5, abs=0.05)
    assert fitted.loc["context", "value"] == pytest.approx(0.25, abs=0.05)
    assert fitted["aoyama_2025"].tolist() == [pytest.approx(13.12, abs=0.01), 0.5, 0.5]
    figure = bump_law.draw(rows, law, "made")
    drawn = {label.get_text() for axes in figure.axes for label in axes.get_yticklabels()}
    assert {"batch", "context"} <= drawn
    assert "exponent of batch minus that of context: +0.2" in bump_law.summary(law)


def test_the_law_counts_and_shows_runs_of_which_only_a_bound_is_known():
    """The first of the others is known to be without a bump at 97 % of 5e4 · 8^½ · 128^¼ tokens."""
    rows, law = bump_law.gather(on_a_law({"8x128": {0: "left_censored"}, "32x512": {2: None}}), "icl")
    assert (law.n, law.censored, law.before) == (18, 1, 1)
    assert "18 runs, 1 right-censored, 1 left-censored\n" in bump_law.summary(law)
    axes = bump_law.draw(rows, law, "made").axes[0]
    assert [y for _, y in marked(axes, "v")] == [pytest.approx(0.97 * 5e4 * 8**0.5 * 128**0.25, abs=1)]
    assert [y for _, y in marked(axes, "^")] == [END]


def test_a_study_without_such_a_sweep_has_no_law(study: Path, capsys):
    with pytest.raises(SystemExit):
        bump_law.main([str(study)])
    assert "none of batch, context, learning rate, warm-up varies here" in capsys.readouterr().err


def test_claims_are_printed_and_written(study: Path, tmp_path: Path, capsys):
    path = claims.main([str(study), "--out", str(tmp_path)])
    rows = pd.read_csv(path).set_index("claim")
    assert rows.loc["smeared_keys_bring_it_forward", "verdict"] == "cannot tell"
    assert rows.loc["heads_carry_it", "runs"] == SEEDS
    printed = capsys.readouterr().out
    assert "→ CANNOT TELL" in printed
    assert "models of one attention layer do not go through an abrupt change" in (tmp_path / "claims.md").read_text()


def test_each_script_says_how_it_is_called_and_loads_no_torch():
    names = ["treatments", "precursor", "depth_and_size", "causal_share", "bump_law", "claims"]
    program = f"""
import importlib, sys
sys.path.insert(0, {str(SCRIPTS)!r})
for name in {names}:
    assert f"python analysis/{{name}}.py" in importlib.import_module(name).__doc__, name
sys.exit('torch was loaded' if 'torch' in sys.modules else 0)
"""
    ended = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
