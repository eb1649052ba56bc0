"""What a study's page says beyond its runs: order of events, ablated groups, treatments, claims."""

import re
from html import unescape
from pathlib import Path

import pandas as pd

from induction_bump.report.linking import study_sections
from induction_bump.report.page import write
from tests.linking.studies import END, Study, made_study
from tests.records.make import make_run
from tests.report.located import bump_between, store
from tests.report.test_page import text_of

PLAIN, SMEARED = {"model.smeared_keys": False}, {"model.smeared_keys": True}


def rows_of(html: str) -> list[list[str]]:
    """The table's rows, as text."""
    body = re.findall(r"<tr>(.*?)</tr>", html.split("<tbody>")[1])
    return [[unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in body]


def study(**tables: pd.DataFrame) -> Study:
    """Six seeds with and without smeared keys: the bump comes after a quarter of the tokens with them."""
    runs = {}
    for seed in range(6):
        early, late = 200_000 + 1000 * seed, 800_000 + 9000 * seed
        runs[f"plain-{seed}"] = {
            "cell": PLAIN,
            "seed": seed,
            "events": {"previous_token": (700_000, 750_000), "icl": (late, late + 50_000)},
        }
        runs[f"smeared-{seed}"] = {"cell": SMEARED, "seed": seed, "events": {"icl": (early, early + 10_000)}}
    return made_study(runs, **tables)


def test_each_section_says_what_the_numbers_say() -> None:
    sections = dict(study_sections(study()))
    assert list(sections) == ["What came first", "Treatments", "Published claims"]
    assert rows_of(sections["What came first"]) == [
        ["plain", "in-context learning after previous token", "6", "0", "0", "1.17 (1.14 to 1.20)"]
    ]
    [[cell, against, runs, ratio, p, says]] = rows_of(sections["Treatments"])
    assert (cell, against, runs, says) == ("smeared keys", "plain", "6 against 6", "earlier")
    assert p == "0.031"  # 2 / 2^6: six pairs, all in one direction
    assert ratio.startswith("0.24 [0.2")
    claims = {row[0]: row[2] for row in rows_of(sections["Published claims"])}
    judged = sum(verdict.split(":")[0] != "not comparable" for verdict in claims.values())
    assert f"{judged} verdicts were judged, each by itself at 5 % a side" in sections["Published claims"]
    assert claims["with smeared keys, two layers go through the change earlier (O22)"] == "supported"


def test_runs_without_the_bump_are_counted_and_bound_the_ratio() -> None:
    runs = {
        f"{name}-{seed}": {"cell": cell, "seed": seed, "events": {"icl": known}}
        for name, cell, known in (("with", SMEARED, (500_000, 600_000)), ("without", PLAIN, None))
        for seed in range(6)
    }
    [[_, _, counted, ratio, _, says]] = rows_of(dict(study_sections(made_study(runs)))["Treatments"])
    assert counted == "6 against 6 (6 without)"
    assert ratio == f"0.00 [0.00, {(500_000 * 600_000) ** 0.5 / END:.2f}] (range of pairs)"
    assert says == "earlier"


def test_runs_that_had_the_bump_from_the_start_are_counted() -> None:
    events = {"with": (SMEARED, [*["left_censored"] * 2, *[(500_000, 600_000)] * 4]), "without": (PLAIN, [None] * 6)}
    runs = {
        f"{name}-{seed}": {"cell": cell, "seed": seed, "events": {"icl": known[seed]}}
        for name, (cell, known) in events.items()
        for seed in range(6)
    }
    [[_, _, counted, *_, says]] = rows_of(dict(study_sections(made_study(runs)))["Treatments"])
    assert counted == "6 (2 from the start) against 6 (6 without)"
    assert says == "earlier"


def test_what_is_lost_without_the_induction_heads_stands_beside_matched_ones() -> None:
    key = {
        "run_id": "plain-0",
        "step": 10,
        "tokens": 1_000_000,
        "quantity": "icl_window_score",
        "kind": "pattern_preserving",
    }
    groups = [("induction", 0, 0.9), ("matched", 0, 0.1), ("matched", 1, 0.3)]
    ablations = pd.DataFrame(
        [
            {**key, "layer": None, "head": None, "group": group, "draw": draw, "value": value, "stderr": 0.09}
            for group, draw, value in groups
        ]
    )
    scalars = pd.DataFrame(
        [
            {
                "run_id": "plain-0",
                "step": 10,
                "tokens": 1_000_000,
                "name": "icl_window_score",
                "value": -1.0,
                "stderr": 0.0,
            }
        ]
    )
    html = dict(study_sections(study(ablations=ablations, scalars=scalars)))["Without the induction heads"]
    assert rows_of(html) == [
        ["plain-0", "in-context learning", "1.0M", "0.90 of 1.00", "90% ± 9%", "0.20 (0.10 to 0.30)"]
    ]


def test_a_study_that_was_not_located_has_no_such_sections() -> None:
    assert study_sections(made_study({"a": {"cell": PLAIN, "seed": 0, "events": {}}})) == []


def test_the_page_of_a_study_has_them_after_its_figures(tmp_path: Path) -> None:
    run = make_run(tmp_path, snapshots=6)
    store(tmp_path / "study", bump_between(run, 1000, 2000))
    text = text_of(write(tmp_path / "study"))
    assert text.index("Held-out loss") < text.rindex("Published claims")
    assert 'href="#section-published-claims"' in (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
