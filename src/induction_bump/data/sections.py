"""What of a document is held out: all or nothing of it, or sections of a long one.

Either way it is a function of the text alone, so that duplicates never stand on both sides.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from induction_bump.data.options import HeldOutBy

SECTION = 20_000
"""Characters of a section, about; a document is cut into equal ones where it has room for two."""
GAP = 1_000
"""Characters at each end of a held-out stretch that are neither held out nor trained on."""


@dataclass(frozen=True)
class Stretch:
    """Text from one document that is held out or trained on as a whole."""

    text: str
    held_out: bool


def is_held_out(text: str, share: float) -> bool:
    """Whether a text belongs to the held-out part; a larger share keeps all that a smaller one holds out."""
    word = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(word, "big") < share * 2.0**64


def stretches(text: str, share: float, by: HeldOutBy) -> Iterator[Stretch]:
    """A document in its order: whole, or a long one by sections, neighbours on the same side joined."""
    sections = max(1, len(text) // SECTION) if by == "sections" else 1
    edges = [len(text) * number // sections for number in range(sections + 1)]
    held_out = [is_held_out(text[begin:end], share) for begin, end in pairwise(edges)]
    first = 0
    for number in range(1, sections + 1):
        if number < sections and held_out[number] == held_out[first]:
            continue
        begin, end = edges[first], edges[number]
        if held_out[first]:
            begin, end = begin + GAP * (first > 0), end - GAP * (number < sections)
        yield Stretch(text[begin:end], held_out[first])
        first = number
