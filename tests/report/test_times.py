"""The figure of when each run had the bump."""

from xml.etree import ElementTree

import pytest

from induction_bump.linking.times import event_times
from induction_bump.records.cells import cells
from induction_bump.report.times import times_figure
from tests.linking.studies import END, made_study, paired

PLAIN, SMEARED = {"model.smeared_keys": False}, {"model.smeared_keys": True}


def drawn(plain: list, smeared: list) -> str:
    records = made_study(paired({"a<b": PLAIN, "c": SMEARED}, {"a<b": plain, "c": smeared}))
    times = event_times(records).set_index("run_id")
    return times_figure(times, cells(records.runs), records.runs.set_index("run_id")["run"].to_dict())


def places(svg: ElementTree.Element, tag: str, attribute: str) -> list[float]:
    return [float(mark.attrib[attribute].rstrip("%")) for mark in svg.iter(tag) if attribute in mark.attrib]


def test_a_dot_a_run_lies_by_the_logarithm_of_its_time() -> None:
    svg = ElementTree.fromstring(drawn([(0.1e6, 0.1e6), (1e6, 1e6)], [(10**5.5, 10**5.5), None]))
    first, second, third = places(svg, "circle", "cx")
    assert third == pytest.approx((first + second) / 2, abs=0.02)
    titles = [title.text for title in svg.iter("title")]
    assert titles == [
        "a<b-0: 100k",
        "a<b-1: 1.00M",
        "geometric mean: 316k",
        "c-0: 316k",
        f"c-1: not by {END / 1e6:.2f}M",
        "geometric mean: 316k",
    ]
    assert [text.text for text in svg.iter("text")] == ["100k", "200k", "500k", "1M", "2M", "plain", "smeared keys"]


def test_who_cannot_see_it_is_told_what_it_shows() -> None:
    svg = ElementTree.fromstring(drawn([(1e6, 1e6)] * 2, ["left_censored", None]))
    assert svg.attrib["role"] == "img"
    label = "Time of the bump. plain: 2 at 1.00M on average; smeared keys: 1 without, 1 from the start."
    assert svg.attrib["aria-label"] == label


def test_all_marks_lie_within_the_frame_also_where_all_times_are_the_same() -> None:
    svg = ElementTree.fromstring(drawn([(1e6, 1e6)] * 2, [(1e6, 1e6)] * 2))
    assert places(svg, "circle", "cx") == [pytest.approx(50, abs=0.1)] * 4
    assert [text.text for text in svg.iter("text")][:1] == ["1M"]


def test_without_a_known_time_there_is_no_figure() -> None:
    assert drawn([None, None], [None, None]) == ""
