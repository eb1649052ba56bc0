"""Tables of the documentation are those that the data beside them give."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import locating_tables
from benchmarks.calibration import OURS, QUANTITIES
from benchmarks.locating_tables import coverage, false_alarms, methods, over_seeds, real_trainings
from benchmarks.page_tables import DOCS, PAGES, filled
from benchmarks.result_tables import shares_of_copies, verdicts


@pytest.mark.parametrize("page", PAGES)
def test_a_page_holds_the_tables_that_its_data_give(page: str):
    text = (DOCS / page).read_text()
    assert text == filled(text, PAGES[page](DOCS)), "python -m benchmarks.page_tables --write"


def block(name: str, table: str = "") -> str:
    return f"<!-- table: {name} -->\n{table}<!-- end of table -->\n"


def test_a_table_takes_the_place_of_what_stood_there_and_nothing_else():
    page = f"before\n{block('a', '{}')}between\n{block('b', '{}')}after\n"
    assert filled(page.format("", "| old |\n"), {"a": "| 1 |", "b": "| 2 |"}) == page.format("| 1 |\n", "| 2 |\n")


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("no table\n", "table a: must be in the page once"),
        (block("a") + block("a"), "table a: must be in the page once"),
        (block("a") + block("b"), "table b: not one of a"),
        ("<!-- table: a -->\n<!-- table: b -->\n", "table a: <!-- table: b --> where"),
    ],
)
def test_a_page_must_have_each_table_once_with_its_end(page: str, told: str):
    with pytest.raises(ValueError, match=told):
        filled(page, {"a": "| 1 |"})


def drawn(setting: str, kind: str, method: str, curves: int, placed: float, share: float) -> dict[str, object]:
    """A line of changes.csv in which all shares and errors are the same."""
    line: dict[str, object] = {"setting": setting, "kind": kind, "method": method, "curves": curves, "placed": placed}
    for quantity in QUANTITIES:
        line |= {f"coverage_{quantity}": share, f"bias_{quantity}": share, f"error_{quantity}": share}
    return line | {"undetermined": 1 - placed}


def test_what_is_pooled_counts_each_curve_that_was_placed_once():
    lines = [("one", 100, 1.0, 0.96), ("two", 300, 0.5, 0.90), ("none", 100, 0.0, np.nan)]
    table = coverage(pd.DataFrame([drawn(name, "change", OURS, *line) for name, *line in lines]))
    # 100 of 96 % and 150 of 90 %, of 500 drawn
    assert "| **pooled** | 50 | **92** | **92** | **92** | **92** | **92** |  | 50 |" in table
    assert table.endswith("The least entries are 90 % of the 15 above “pooled”.")


def test_a_method_that_places_nothing_in_a_setting_is_judged_by_the_others():
    method = "steepest step"
    changes = pd.DataFrame([drawn("a", "change", method, 100, 1.0, 0.03), drawn("b", "change", method, 100, 0, np.nan)])
    nulls = pd.DataFrame({"method": method, "curves": [100, 300], "alarms": [10, 0], "share": [0.1, 0.0]})
    *_, row = methods(changes, nulls).splitlines()
    assert row == f"| {method} | 50 | +3.0, 3.0 | +3.0, 3.0 | +3.0, 3.0 | 2.5 % | 10.0 % |"


def test_false_alarms_are_those_of_locating_alone():
    line = {"setting": "line", "curves": 40, "alarms": 1, "share": 0.025, "low": 0.0006, "high": 0.13}
    line |= {"p_below_0.01": 0.05, "undetermined": 0.9}
    nulls = pd.DataFrame([{"method": OURS, **line}, {"method": "threshold", **line, "alarms": 40}])
    assert false_alarms(nulls).splitlines()[2:] == ["| line | 40 | 1 (2.5 %) | 0.1–13.0 % | 5.0 % | 90 % |"]


def test_coverage_over_seeds_is_of_the_cells_that_tell_an_interval():
    """Of two sizes of cells, and of one in which hardly any tell a spread."""
    about = {"known": "placed", "size": 0.5, "censored": [0, 0, 0.25], "runs": [3, 6, 3], "cells": 100}
    medians = {"medians": 100, "medians_held": [90, 96, 92]}
    spreads = {"spreads": [100, 60, 10], "spreads_held": [90, 51, 5], "spreads_above_0": [80, 60, 10]}
    rows = over_seeds(pd.DataFrame(about | medians | spreads)).splitlines()
    assert rows[0] == "| each run is | 0 % too short | 25 % too short | `cv_low` is 0 |"
    assert rows[2] == "| placed, error 0.5 | 93, 88 | 92, 50 | 12 |"
    assert rows[-1] == "Over all, 93 and 86 %; the least entries, 92 and 50 %."


def test_a_run_of_two_studies_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for study, runs in {"one": ["a", "b"], "two": ["b"]}.items():
        pd.DataFrame({"cell": "s", "run_id": runs}).to_csv(tmp_path / f"{study}-times.csv", index=False)
        counts = pd.DataFrame({"cell": "s", "event": ["icl", "icl_change"], "runs": len(runs)})
        counts.assign(found=[1, 0], undetermined=[0, 1]).to_csv(tmp_path / f"{study}-cells.csv", index=False)
    monkeypatch.setattr(locating_tables, "REAL", {"all": [("one", ["s"]), ("two", [])]})
    assert real_trainings(tmp_path).splitlines()[-1] == "| all | 2 | 0 | 1 | 1 | 1 |"
    monkeypatch.setattr(locating_tables, "REAL", {"all": [("one", ["s"]), ("two", ["s"])]})
    with pytest.raises(ValueError, match="counted twice, or left out"):
        real_trainings(tmp_path)


def test_a_claim_has_a_mark_for_each_study_that_it_was_judged_on():
    claims = pd.DataFrame(
        [
            ("a", "first", "O22", "depth", "contradicted"),
            ("b", "second", "E21", "clamps", "cannot tell"),
            ("a", "first", "O22", "smeared_keys", "supported"),
        ],
        columns=["claim", "statement", "source", "study", "verdict"],
    )
    rows = verdicts(claims).splitlines()[2:]
    assert rows == ["| first | O22 | ✓ |  | ✗ |  |  |  |", "| second | E21 |  | ? |  |  |  |  |"]


def test_a_share_of_copies_without_the_bump_has_a_bound_and_no_time():
    cells = pd.DataFrame({"cell": [f"copy share {share}" for share in (0, 0.9, 0.2)], "event": "icl_change"})
    cells = cells.assign(runs=5, found=[0, 5, 5], median=[np.nan, 3.2e6, 1.05e7])
    cells = cells.assign(median_low=[np.nan, 3e6, 9.9e6], median_high=[np.nan, 3.5e6, 1.2e7])
    treatments = pd.DataFrame({"cell": ["copy share 0.2", "copy share 0"], "ratio": [3.3, np.inf]})
    treatments = treatments.assign(ratio_low=[2.9, 4.1], ratio_high=[3.8, np.inf])
    assert shares_of_copies(cells, treatments).splitlines()[2:] == [
        "| 0.9 | 3.20M [3.00M, 3.50M] |  |",
        "| 0.2 | 10.5M [9.90M, 12.0M] | 3.30 [2.90, 3.80] |",
        "| 0 | in none of 5 runs | at least 4.10 |",
    ]
