"""Every head before and after the change, and its attribution."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from induction_bump.locate.run import find
from induction_bump.records.directory import RunDirectory
from induction_bump.records.frames import rows
from induction_bump.records.load import load
from tests.analysis.script import call_script, run_script
from tests.records.make import make_run

sys.path.insert(0, str(Path(__file__).parents[2] / "analysis"))
import head_table


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    make_run(root, name="two-layer", snapshots=12, run_id="aaaa", expensive_every=1)
    add_ablated_tokens(RunDirectory(root / "study" / "two-layer-aaaa"), -1)
    make_run(root, name="one-layer", sublayers="s", bump_at=None, seed=1, snapshots=9, run_id="bbbb")
    early = make_run(root, name="early", snapshots=9, run_id="dddd", bump_at=0.02e6, seed=3, expensive_every=1)
    add_ablated_tokens(RunDirectory(early), -1)
    middle = make_run(root, name="middle", snapshots=30, run_id="eeee", bump_at=1e6, seed=4, expensive_every=1)
    add_ablated_tokens(RunDirectory(middle), -3)
    make_run(root, name="unmeasured", snapshots=12, seed=2, run_id="cccc")
    return root / "study"


def test_each_run_with_a_change_gets_its_table_and_the_others_a_reason(study: Path) -> None:
    ended = run_script("head_table", study)
    assert ended.returncode == 0, ended.stderr
    assert "one-layer-bbbb: no change was located" in ended.stdout
    assert "unmeasured-cccc: no ablations are recorded; bump measure" in ended.stdout
    early = "early-dddd: without control: no stretch before the change is as long as the change"
    middle = "middle-eeee: without attribution: no ablations of the last snapshot"
    assert [line for line in ended.stdout.splitlines() if ": without " in line] == [early, middle]
    columns = {}
    for name in ("two-layer-aaaa", "early-dddd", "middle-eeee"):
        table = pd.read_csv(study / "analysis" / f"{name}-head_table.csv", nrows=0)
        columns[name] = [column for column in table if column.startswith("attribution")]
    ours, control = ([name, f"{name}_cosine"] for name in ("attribution", "attribution_control"))
    assert columns == {"two-layer-aaaa": ours + control, "early-dddd": ours, "middle-eeee": []}
    assert (study / "analysis" / "two-layer-aaaa-head_table.png").read_bytes().startswith(b"\x89PNG")


def test_the_csv_holds_every_head_at_both_moments_with_all_it_has(study: Path) -> None:
    assert call_script("head_table", study / "two-layer-aaaa").returncode == 0
    table = pd.read_csv(study / "two-layer-aaaa" / "analysis" / "head_table.csv")
    assert table.groupby("when").size().nunique() == 1
    assert set(table["when"]) == {"before", "after"}
    after = table[table["when"] == "after"]
    assert {"prefix_matching", "zero loss", "pattern_preserving ordered_copy_advantage", "attribution"} <= set(table)
    assert after["attribution"].notna().all()
    assert table.loc[table["when"] == "before", "attribution"].isna().all()


def add_ablated_tokens(run: RunDirectory, at: int, label: str = "made") -> None:
    """Noise, at one snapshot, as `bump measure` would add rows."""
    last, rng = run.snapshots()[at], np.random.default_rng(0)
    layer, head, example = (index.ravel() for index in np.indices((2, 4, 16)))
    columns = {"layer": layer, "head": head, "kind": ["pattern_preserving"] * len(layer), "example": example}
    noise = 3 + rng.standard_normal(len(layer)).astype(np.float32)
    run.append_rows(
        "ablated_tokens",
        label,
        rows("ablated_tokens", run.info.run_id, last.step, last.tokens, columns | {"loss": noise}),
    )


def test_attribution_is_the_projection_of_the_ablation_on_the_change(study: Path) -> None:
    """Written out with loops, from the records; the control from as long before the change as the change lasts."""
    call_script("head_table", study / "two-layer-aaaa")
    table = pd.read_csv(study / "two-layer-aaaa" / "analysis" / "head_table.csv")
    run = RunDirectory(study / "two-layer-aaaa")
    tokens = run.table("tokens").to_pandas()
    losses = {(row.tokens, row.example): row.loss for row in tokens.itertuples()}
    events = find(run.path).table
    found = events[(events["verdict"] == "found") & (events["event"] != "prefix_matching_strong")]
    start, end = found["tokens_low"].min(), found["tokens_high"].max()
    before = min({moment for moment, _ in losses}, key=lambda moment: abs(moment - (2 * start - end)))
    assert 0 < before < start
    last = tokens["tokens"].max()
    ablated = {
        (row.layer, row.head, row.example): row.loss for row in run.table("ablated_tokens").to_pandas().itertuples()
    }
    after = table[table["when"] == "after"]
    assert len(after) == 8
    for name, one, other in (("attribution", start, end), ("attribution_control", before, start)):
        v = np.array([losses[other, e] - losses[one, e] for e in range(16)])
        v /= np.sqrt((v**2).sum())
        for _, row in after.iterrows():
            change = np.array([ablated[row["layer"], row["head"], e] - losses[last, e] for e in range(16)])
            product = sum(change * v)
            assert row[name] == pytest.approx(product, abs=1e-4)
            assert row[f"{name}_cosine"] == pytest.approx(product / np.sqrt((change**2).sum()), abs=1e-4)


def test_a_snapshot_at_which_the_change_ends_has_no_attribution(study: Path) -> None:
    path = study / "two-layer-aaaa"
    first, *_, last = (snapshot.tokens for snapshot in RunDirectory(path).snapshots() if snapshot.step)
    table = head_table.attribution(load(path), "aaaa", first, last, last)
    assert len(table) == 8
    assert set(table) == {"layer", "head"}
    assert head_table.lacking(table, last, last) == "the change ends at the last snapshot"
