"""The phase changes of a run, read from its records, written and printed."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from induction_bump.locate import changes
from induction_bump.locate.further import corner_ratios, principal_components, surrogate_ratios
from induction_bump.locate.one_thread import one_thread
from induction_bump.locate.outcome import LocatedChange
from induction_bump.locate.run import Located, find, locate
from induction_bump.records.load import load
from induction_bump.records.schema import CELLS, CHANGES
from induction_bump.tracking.located import located_summary
from tests.records.make import make_run


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        make_run(root, name="two-layer", bump_at=0.3e6 * (1 + 0.05 * seed), seed=seed, snapshots=50)
    make_run(root, name="one-layer", sublayers="s", bump_at=None, seed=9, snapshots=50)
    return root / "study"


@pytest.fixture(scope="module")
def located(study: Path) -> Located:
    return locate(study)


def of(located: Located, model: str) -> pd.DataFrame:
    table = located.table.assign(model=located.table.run.str.rsplit("-", n=1).str[0])
    return table[table.model == model].set_index("event")


def test_a_run_with_a_bump_has_all_changes_and_one_without_has_none(located: Located):
    assert of(located, "two-layer").loc[["icl_change", "copy_advantage_change", "prefix_matching_change"]].found.all()
    assert not of(located, "one-layer").loc[["icl_change", "copy_advantage_change", "loss_bump"]].found.any()


def test_a_change_lies_between_its_snapshots_with_the_interval_of_its_midpoint(located: Located):
    rows = of(located, "two-layer").loc[["icl_change", "copy_advantage_change", "prefix_matching_change"]]
    assert (rows.tokens_low < rows.tokens_estimate).all()
    assert (rows.tokens_estimate < rows.tokens_high).all()
    assert ((rows.ci_low <= rows.tokens_estimate) & (rows.tokens_estimate <= rows.ci_high)).all()
    assert rows.verdict.isin(["abrupt", "gradual"]).all()
    assert (rows.rule.str.contains("ln 3 = 1.10")).all()


def test_the_tables_are_written_and_read_back(study: Path, located: Located):
    assert pq.read_schema(study / "changes.parquet").equals(CHANGES)
    assert pq.read_schema(study / "cells.parquet").equals(CELLS)
    records = load(study)
    pd.testing.assert_frame_equal(records.changes, located.changes)
    cells = records.cells.set_index(["cell", "event"])
    assert cells.loc[("ss", "icl_change")].found == 3
    own = load(located.runs[0].run.path).changes
    assert own.run.unique().tolist() == [located.runs[0].run.name]
    assert (study / "changes.csv").is_file()


def test_a_run_alone_gives_what_it_gave_in_its_study(located: Located):
    run = located.runs[0]
    again = find(run.run.path, changes=True).changes
    pd.testing.assert_frame_equal(again, located.changes[located.changes.run == run.run.name])


def test_several_processes_give_what_one_gives(tmp_path: Path):
    for seed in range(2):
        make_run(tmp_path, seed=seed, snapshots=16)
    one, two = (find(tmp_path / "study", changes=True, processes=n) for n in (1, 2))
    pd.testing.assert_frame_equal(one.changes, two.changes)


def test_linear_algebra_has_one_thread_meanwhile(study: Path, monkeypatch: pytest.MonkeyPatch):
    """With two, threads that wait for each other made it four times as slow."""
    seen: list[int] = []

    def look(*_: object) -> list[LocatedChange]:
        seen.extend(library["num_threads"] for library in threadpool_info())
        return []

    monkeypatch.setattr(changes, "find_further", look)
    with one_thread(), threadpool_limits(2):  # so that all libraries are there
        find(next(study.glob("one-layer*")), changes=True)
        assert {library["num_threads"] for library in threadpool_info()} == {2}
    assert seen
    assert set(seen) == {1}


THREADS = """
from threadpoolctl import threadpool_info
from induction_bump.locate.one_thread import one_thread
with one_thread():
    import scipy.linalg
    held = {each["num_threads"] for each in threadpool_info()}
print(held)
"""


def test_one_thread_holds_libraries_that_are_loaded_later():
    """SciPy's linear algebra, loaded inside, kept all its threads in a process that had not used it before."""
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    said = subprocess.run([sys.executable, "-c", THREADS], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout == "{1}\n"


def test_a_change_comes_before_its_cell_in_the_text(located: Located):
    text = located.text()
    assert text.index("icl_change") < text.index("Over seeds")
    assert "median over seeds" in text


def test_the_tracked_summary_has_verdict_and_interval(located: Located):
    summary = located_summary(located.runs[-1].run)
    assert summary["bump/icl_change/verdict"] in ("abrupt", "gradual")
    assert summary["bump/icl_change/ci_low"] < summary["bump/icl_change/ci_high"]


def test_a_run_of_few_snapshots_says_so(tmp_path: Path):
    table = locate(make_run(tmp_path, snapshots=6)).table.set_index("event")
    assert table.loc["icl_change"].verdict == "not_applicable"
    assert "12 are the least" in table.loc["icl_change"].rule


def test_events_alone_leave_no_changes(tmp_path: Path):
    run = make_run(tmp_path, snapshots=12)
    locate(run, changes=False)
    assert not (run / "changes.parquet").exists()


def test_components_of_a_random_walk_turn_corners_as_often_as_their_surrogates():
    random = np.random.default_rng(0)
    x = np.log(np.linspace(2e5, 5e6, 40))
    p = []
    for _ in range(20):
        walk = np.cumsum(random.standard_normal((40, 64)), axis=0)
        seen = corner_ratios(x, principal_components(walk)).max()
        p.append((surrogate_ratios(walk, x, random, draws=39) >= seen).mean())
    assert 0.3 < np.mean(p) < 0.7
