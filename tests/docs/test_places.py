"""Every page, heading and file that pages, docstrings and comments cite is there."""

import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.cited import PAGES, ROOT, Cited, Passage, passages

_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
_PAGE = re.compile(r"(?<![\w/.{*-])((?:[\w.-]+/)*[\w-]+\.md)(#[\w-]+)?(?:,? §[\d.]+)?(?![\w/])")
_HEADING = re.compile(r"^#+ +(.+?) *#* *$", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


@cache
def anchors(page: Path) -> frozenset[str]:
    """What GitHub calls the headings of a page."""
    given: dict[str, int] = {}
    for heading in _HEADING.findall(_FENCED.sub("", page.read_text())):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        given[slug] = given.get(slug, -1) + 1
        if given[slug]:
            given[f"{slug}-{given[slug]}"] = 0
    return frozenset(given)


def cited_places() -> list[Cited]:
    """Targets of links of pages, and pages that are named anywhere."""
    found: list[Cited] = []
    for passage in passages():
        links = _LINK.finditer(passage.text) if passage.path in PAGES else ()
        found += [passage.cited(link[1], link.start(1)) for link in links]
        named = _LINK.sub(lambda link: " " * len(link[0]), passage.text) if passage.path in PAGES else passage.text
        found += [passage.cited(each[0], each.start()) for each in _PAGE.finditer(named)]
    return [each for each in found if not re.match(r"https?:|mailto:", each.text)]


def wrong_with(cited: Cited) -> str | None:
    """Why a place cannot be gone to; None where it can.

    A page is named from the root, or from where it is cited, or by its own name alone.
    """
    named, _, anchor = cited.text.partition("#")
    if " §" in named:
        return "a page has headings, not sections with numbers"
    beside = cited.path.parent / named if named else cited.path
    called = [page for page in PAGES if page.name == named != "README.md"]
    page = next((path for path in (beside, ROOT / named, *called) if path.exists()), None)
    if page is None:
        return "no such file"
    if anchor and anchor not in anchors(page):
        return f"no such heading; there are {', '.join(sorted(anchors(page)))}"
    return None


def test_places_that_are_cited_are_there():
    places = cited_places()
    assert len(places) > 60  # or they are not found
    assert not [f"{each}: {wrong}" for each in places if (wrong := wrong_with(each))]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("README.md", None),
        ("docs/running.md#what-exact-means", None),
        ("docs/running.md#weights--biases", None),
        ("docs/measures/definitions.md#icl_score-icl_window_score", None),
        ("docs/running.md#exactly", "no such heading"),
        ("docs/measures.md", "no such file"),
        ("definitions.md §4", "sections with numbers"),
    ],
)
def test_what_is_not_there_is_told(text: str, wrong: str | None):
    told = wrong_with(Cited(text, ROOT / "src" / "a.py", 1))
    assert told is None if wrong is None else told and wrong in told


def test_places_are_found_in_links_and_in_text():
    passage = Passage("[a](b.md#c), `docs/d.md`\n(e.md §4; f.md), https://x.y/g.md, h.mdx", PAGES[0], 7)
    links = [m[1] for m in _LINK.finditer(passage.text)]
    named = [m[0] for m in _PAGE.finditer(passage.text[13:])]
    assert (links, named) == (["b.md#c"], ["docs/d.md", "e.md §4", "f.md"])
    assert passage.cited("e.md", passage.text.index("e.md")).line == 8


def test_headings_of_one_name_are_told_apart(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("# `a_b`, [c](d)\n```\n# no heading\n```\n## Twice\n## Twice\n### A “b” — c!\n")
    assert anchors(page) == {"a_b-c", "twice", "twice-1", "a-b--c"}
