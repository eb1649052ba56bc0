"""`locate` writes what it found beside the records, and prints it for people."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from induction_bump.locate.formats import format_ends, format_interval, format_tokens
from induction_bump.locate.run import Located, find, locate
from induction_bump.locate.summary import bump_summary
from induction_bump.records.load import load
from induction_bump.records.schema import PHASE_CHANGES, RecordsError
from tests.records.make import make_run


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart's three models."""
    root = tmp_path_factory.mktemp("runs")
    make_run(root, name="one-layer", sublayers="s", bump_at=None, seed=1, snapshots=24)
    make_run(root, name="smeared", sublayers="s", smeared_keys=True, bump_at=0.2e6, seed=2, snapshots=24)
    make_run(root, name="two-layer", bump_at=0.8e6, seed=3, snapshots=24)
    return root / "study"


@pytest.fixture(scope="module")
def located(study: Path) -> Located:
    """What is written and printed for them."""
    return locate(study, changes=False)


def test_the_study_and_each_run_get_their_files(study: Path, located: Located):
    assert located.path == study
    tables = {p.parent.name: pq.read_table(p) for p in study.rglob("phase_changes.parquet")}
    assert set(tables) == {"study", *(run.run.path.name for run in located.runs)}
    for table in tables.values():
        assert table.schema.equals(PHASE_CHANGES)
    assert tables.pop("study").num_rows == sum(t.num_rows for t in tables.values()) == 15
    assert not list(study.rglob("*.tmp"))


def test_the_csv_says_what_the_parquet_says(study: Path, located: Located):
    parquet = pq.read_table(study / "phase_changes.parquet").to_pandas()
    csv = pd.read_csv(study / "phase_changes.csv", dtype={"run_id": str})
    assert list(csv.columns) == list(parquet.columns)
    pd.testing.assert_frame_equal(csv, parquet, check_dtype=False, check_exact=True)


def test_records_load_reads_what_was_written(study: Path, located: Located):
    pd.testing.assert_frame_equal(load(study).phase_changes, located.table)
    run = located.runs[0].run.path
    own = load(run).phase_changes
    assert own.run.tolist() == [run.name] * 5
    pd.testing.assert_frame_equal(own, located.table[located.table.run == run.name].reset_index(drop=True))


def test_a_run_alone_is_located_in_its_own_directory(tmp_path: Path):
    run = make_run(tmp_path, snapshots=12)
    located = locate(run, changes=False)
    assert sorted(p.name for p in run.glob("phase_changes*")) == ["phase_changes.csv", "phase_changes.parquet"]
    assert not list(run.parent.glob("phase_changes*"))
    assert located.table.run.tolist() == [run.name] * 5


def test_finding_writes_nothing(tmp_path: Path):
    run = make_run(tmp_path, snapshots=12)
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    find(run)
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*")} == before


def test_locating_again_replaces_the_files(tmp_path: Path):
    run = make_run(tmp_path, snapshots=12)
    (run / "phase_changes.csv").write_text("stale")
    first = locate(run, changes=False).table
    pd.testing.assert_frame_equal(locate(run, changes=False).table, first)
    assert not (run / "phase_changes.csv").read_text().startswith("stale")


def test_columns_agree_with_each_other(located: Located):
    table = located.table
    found = table[table.found]
    assert set(found.verdict) <= {"found", "left_censored"}
    known = ["tokens_low", "tokens_high", "tokens_estimate", "ci_low", "ci_high", "value_before", "value_after"]
    assert found[known].notna().all(axis=None)
    assert (found.ci_low == found.tokens_low).all()
    assert (found.ci_high == found.tokens_high).all()
    assert ((found.tokens_low <= found.tokens_estimate) & (found.tokens_estimate <= found.tokens_high)).all()
    np.testing.assert_allclose(found.tokens_estimate, np.sqrt(found.tokens_low * found.tokens_high))
    missing = table[~table.found]
    assert missing[["tokens_high", "tokens_estimate", "ci_high"]].isna().all(axis=None)
    assert table.rule.str.len().gt(0).all()


def test_an_event_after_step_0_is_estimated_at_the_end_of_its_interval(tmp_path: Path):
    table = locate(make_run(tmp_path, snapshots=8, bump_at=1e3), changes=False).table.set_index("event")
    row = table.loc["prefix_matching"]
    assert (row.verdict, row.tokens_low) == ("found", 0)
    assert row.tokens_estimate == row.tokens_high


def test_only_the_bumps_that_are_there_are_found(located: Located):
    table = located.table.assign(model=located.table.run.str.rsplit("-", n=1).str[0]).set_index(["model", "event"])
    assert table.loc["two-layer"].found.all()
    assert table.loc["smeared"].found.all()
    assert not table.loc["one-layer"].found.any()
    assert (table.loc["smeared"].tokens_high < table.loc["two-layer"].tokens_low).all()


def test_the_text_is_one_aligned_block_a_run(located: Located):
    blocks = located.text().split("\n\n")
    assert [b.splitlines()[0].split("-")[0] for b in blocks] == ["one", "smeared", "two"]
    assert all(len(b.splitlines()) == 7 for b in blocks)
    lines = blocks[2].splitlines()
    place = lines[1].index("verdict")
    assert {line[place : place + 5] for line in lines[2:]} == {"found"}
    event = next(e for e in located.runs[2].events if e.name == "prefix_matching")
    line = next(line for line in lines if line.strip().startswith("prefix_matching "))
    assert format_interval(*(m.tokens for m in event.interval)) in line
    assert f"L1H3 {event.before:.2f} → {event.after:.2f}" in line
    assert "one attention layer: no later one reads its heads" in blocks[0]


def test_the_summary_says_where_the_bump_is_which_heads_made_it_and_where_there_is_none(study: Path, located: Located):
    first, *rest = bump_summary(study).splitlines()
    two, smeared = located.runs[2].event("icl"), located.runs[1].event("icl")
    low, high = format_ends(*(m.tokens for m in two.interval))
    head = located.runs[2].event("prefix_matching").heads[0]
    assert first == (
        f"Bump located in the two-layer run: between {low} and {high} tokens; "
        f"induction heads L1H3 (prefix matching {head.before:.2f} → {head.after:.2f})"
    )
    low, high = format_ends(*(m.tokens for m in smeared.interval))
    none, earlier = rest
    assert none.startswith("None in the one-layer run (best head's prefix matching at the end: 0.02)")
    assert earlier.startswith(f"An earlier one in the smeared-keys one-layer run: between {low} and {high} tokens")


def test_the_summary_tells_runs_of_one_model_apart_and_compares_times(tmp_path: Path):
    for i, at in enumerate((0.3e6, 0.3e6, 1.0e6)):
        make_run(tmp_path, name=f"seed{i}", bump_at=at, seed=i, run_id=f"{i:04x}", snapshots=24, sublayers="sfsf")
    lines = bump_summary(tmp_path / "study").splitlines()
    assert lines[0].startswith("Bump located in the two-layer run with MLPs seed0-0000: ")
    assert lines[1].startswith("One at about the same time in the two-layer run with MLPs seed1-0001: ")
    assert lines[2].startswith("A later one in the two-layer run with MLPs seed2-0002: ")


def test_the_summary_of_runs_without_a_bump_claims_none(tmp_path: Path):
    make_run(tmp_path, name="one", sublayers="s", bump_at=None)
    make_run(tmp_path, name="going", bump_at=None, status="running", seed=1)
    make_run(tmp_path, name="bigram", sublayers="", bump_at=None, seed=2)
    lines = bump_summary(tmp_path / "study").splitlines()
    assert lines[0] == "None in the zero-layer run"
    assert lines[1].startswith("No bump so far in the two-layer run: interrupted, read up to 2.0M tokens")
    assert lines[2].startswith("None in the one-layer run")


def test_the_summary_of_a_run_that_has_measured_nothing_claims_nothing(tmp_path: Path):
    make_run(tmp_path, name="new", snapshots=0, status="running", run_id="aaaa")
    make_run(tmp_path, name="broken", sublayers="s", snapshots=0, status="failed", run_id="bbbb")
    assert bump_summary(tmp_path / "study").splitlines() == [
        "Nothing measured yet in the one-layer run (failed)",
        "Nothing measured yet in the two-layer run (interrupted)",
    ]


@pytest.mark.parametrize(
    ("bump_at", "line"),
    [
        (None, "Unknown in the two-layer run: the records hold no icl_window_score per example (best head's"),
        (0.5e6, "but in-context learning is unknown: the records hold no icl_window_score per example (best head's"),
    ],
)
def test_the_summary_says_why_in_context_learning_is_unknown(tmp_path: Path, bump_at: float | None, line: str):
    path = make_run(tmp_path, bump_at=bump_at)
    for file in path.glob("**/examples.parquet"):
        file.unlink()
    assert line in bump_summary(path)


@pytest.mark.parametrize(
    ("tokens", "digits", "text"),
    [
        (0, 2, "0"),
        (512, 2, "512"),
        (8192, 2, "8.2k"),
        (819_200, 2, "819k"),
        (5_242_880, 2, "5.2M"),
        (12_288_000, 2, "12M"),
        (12_288_000, 3, "12.3M"),
        (999_999, 2, "1.0M"),
        (1.5e9, 2, "1.5B"),
    ],
)
def test_tokens_are_written_with_a_unit(tokens: float, digits: int, text: str):
    assert format_tokens(tokens, digits) == text


def test_the_ends_of_an_interval_can_be_told_apart():
    assert format_interval(5_242_880, 5_734_400) == "5.2M–5.7M"
    assert format_interval(5_242_880, 5_283_840) == "5.24M–5.28M"
    assert format_interval(0, 8192) == "0–8.2k"


def test_what_is_no_run_is_refused_and_nothing_is_written(tmp_path: Path):
    with pytest.raises(RecordsError, match="neither a run nor a study"):
        locate(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_locating_loads_no_torch():
    program = """
import sys
import induction_bump.locate.run, induction_bump.locate.summary
loaded = sorted({"torch", "lightning", "pytorch_lightning"} & {m.split(".")[0] for m in sys.modules})
sys.exit(f"loaded {loaded}" if loaded else 0)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
