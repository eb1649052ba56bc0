"""A stretch of text is either trained on or held out, with a gap between, and its own words alone decide."""

import random
from itertools import pairwise

import pytest

from induction_bump.data.sections import GAP, SECTION, is_held_out, stretches
from tests.data.conftest import WORDS

LONG = " ".join(random.Random(0).choices(WORDS, k=120_000))
SHORT = LONG[: 2 * SECTION - 1]


@pytest.mark.parametrize("text", ["a", SHORT, LONG])
def test_whole_documents_are_one_stretch(text: str):
    (stretch,) = stretches(text, 0.3, "documents")
    assert (stretch.text, stretch.held_out) == (text, is_held_out(text, 0.3))


def test_a_document_without_room_for_two_sections_is_held_out_as_a_whole():
    assert list(stretches(SHORT, 0.3, "sections")) == list(stretches(SHORT, 0.3, "documents"))


def test_the_sections_of_a_long_document_are_on_both_sides_with_gaps_between():
    parts = list(stretches(LONG, 0.3, "sections"))
    assert len(parts) > 10
    places, at = [], 0
    for part in parts:
        at = LONG.index(part.text, at)
        places.append((at, at + len(part.text)))
        at += len(part.text)
    assert (places[0][0] == 0 or parts[0].held_out, places[-1][1]) == (True, len(LONG))
    for (part, (_, end)), (after, (begin, _)) in pairwise(zip(parts, places, strict=True)):
        assert part.held_out != after.held_out
        assert begin - end == GAP
    share = sum(len(part.text) for part in parts if part.held_out) / len(LONG)
    assert 0.1 < share < 0.5


def test_the_same_document_is_divided_the_same_way_and_a_larger_share_keeps_what_is_held_out():
    assert list(stretches(LONG, 0.3, "sections")) == list(stretches(LONG, 0.3, "sections"))
    small, large = (
        "".join(part.text for part in stretches(LONG, share, "sections") if not part.held_out) for share in (0.3, 0.1)
    )
    assert len(small) < len(large)


def test_nothing_of_a_document_is_lost_where_nothing_of_it_is_held_out():
    (stretch,) = stretches(LONG, 0.0, "sections")
    assert (stretch.text, stretch.held_out) == (LONG, False)
