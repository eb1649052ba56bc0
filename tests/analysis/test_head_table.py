"""Every head before and after the change, and its attribution."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from induction_bump.locate.run import find
from induction_bump.records.directory import RunDirectory
from induction_bump.records.frames import rows
from tests.records.make import make_run

SCRIPT = Path(__file__).parents[2] / "analysis" / "head_table.py"


def draw(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    make_run(root, name="two-layer", snapshots=12, run_id="aaaa", expensive_every=1)
    _add_ablated_tokens(RunDirectory(root / "study" / "two-layer-aaaa"))
    make_run(root, name="one-layer", sublayers="s", bump_at=None, seed=1, snapshots=9, run_id="bbbb")
    make_run(root, name="unmeasured", snapshots=12, seed=2, run_id="cccc")
    return root / "study"


def test_each_run_with_a_change_gets_its_table_and_the_others_a_reason(study: Path) -> None:
    ended = draw(study)
    assert ended.returncode == 0, ended.stderr
    assert "one-layer-bbbb: no change was located" in ended.stdout
    assert "unmeasured-cccc: no ablations are recorded; bump measure" in ended.stdout
    assert (study / "analysis" / "two-layer-aaaa-head_table.png").read_bytes().startswith(b"\x89PNG")


def test_the_csv_holds_every_head_at_both_moments_with_all_it_has(study: Path) -> None:
    assert draw(study / "two-layer-aaaa").returncode == 0
    table = pd.read_csv(study / "two-layer-aaaa" / "analysis" / "head_table.csv")
    assert table.groupby("when").size().nunique() == 1
    assert set(table["when"]) == {"before", "after"}
    after = table[table["when"] == "after"]
    assert {"prefix_matching", "zero loss", "pattern_preserving ordered_copy_advantage", "attribution"} <= set(table)
    assert after["attribution"].notna().all()
    assert table.loc[table["when"] == "before", "attribution"].isna().all()


def _add_ablated_tokens(run: RunDirectory) -> None:
    """Noise, at the last snapshot, as `bump measure` would add rows."""
    last, rng = run.snapshots()[-1], np.random.default_rng(0)
    layer, head, example = (index.ravel() for index in np.indices((2, 4, 16)))
    columns = {"layer": layer, "head": head, "kind": ["pattern_preserving"] * len(layer), "example": example}
    noise = 3 + rng.standard_normal(len(layer)).astype(np.float32)
    run.append_rows(
        "ablated_tokens", "made", rows("ablated_tokens", "aaaa", last.step, last.tokens, columns | {"loss": noise})
    )


def test_attribution_is_the_projection_of_the_ablation_on_the_change(study: Path) -> None:
    """Written out with loops, from the records."""
    draw(study / "two-layer-aaaa")
    table = pd.read_csv(study / "two-layer-aaaa" / "analysis" / "head_table.csv")
    run = RunDirectory(study / "two-layer-aaaa")
    tokens = run.table("tokens").to_pandas()
    losses = {(row.tokens, row.example): row.loss for row in tokens.itertuples()}
    events = find(run.path).table
    found = events[(events["verdict"] == "found") & (events["event"] != "prefix_matching_strong")]
    start, end = found["tokens_low"].min(), found["tokens_high"].max()
    v = np.array([losses[end, e] - losses[start, e] for e in range(16)])
    v /= np.sqrt((v**2).sum())
    last = tokens["tokens"].max()
    ablated = {
        (row.layer, row.head, row.example): row.loss for row in run.table("ablated_tokens").to_pandas().itertuples()
    }
    after = table[table["when"] == "after"]
    assert len(after) == 8
    for _, row in after.iterrows():
        change = [ablated[row["layer"], row["head"], e] - losses[last, e] for e in range(16)]
        assert row["attribution"] == pytest.approx(sum(change * v), abs=1e-4)
