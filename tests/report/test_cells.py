"""The table of a study's page that says when the runs of each cell change."""

from typing import Any

import pytest

from induction_bump.report.markup import cells

ROW: dict[str, Any] = {
    "cell": "ss & <more>",
    "event": "icl",
    "runs": 8,
    "found": 6,
    "undetermined": 0,
    "median": 3.2e6,
    "median_low": 2.9e6,
    "median_high": 3.5e6,
    "cv": 0.11,
    "cv_low": 0.06,
    "cv_high": 0.2,
    "rule": "log-normal over 8 seeds",
}
UNBOUNDED = {"median": None, "median_high": float("inf")}
UNKNOWN = {"median": None, "median_low": None, "median_high": None, "cv": None, "cv_low": None, "cv_high": None}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ["6 of 8<", "3.20M (2.9M–3.5M)", "11 %", "ss &amp; &lt;more&gt;"]),
        ({"undetermined": 2}, ["6 of 8, 2 undetermined"]),
        ({"median_high": float("inf")}, ["3.20M (2.9M or later)"]),
        (UNBOUNDED, ["later than 2.9M"]),
        ({"median": None, "median_low": 0.0}, ["earlier than 3.5M"]),
        ({"cv": None, "cv_low": 0.0, "cv_high": 0.03}, ["≤ 3.0 %"]),
        (UNKNOWN, [">–</td><td>–<"]),
    ],
)
def test_what_is_known_of_a_cell_is_told(change: dict[str, Any], told: list[str]):
    html = cells([ROW | change])
    assert [text for text in told if text not in html] == []


def test_a_study_without_cells_has_no_table():
    assert cells([]) == ""
