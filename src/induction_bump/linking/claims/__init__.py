"""Published claims held against records: `judge` goes through all of them.

A claim is a function with a line of text and a source; writing one in a module that is imported here adds it.
"""

from induction_bump.linking.claims import circuits, in_context, timing, treated
from induction_bump.linking.claims.claim import CLAIMS, Finding, Judged, Verdict, judge, markdown, reservation, table

__all__ = [
    "CLAIMS",
    "Finding",
    "Judged",
    "Verdict",
    "circuits",
    "in_context",
    "judge",
    "markdown",
    "reservation",
    "table",
    "timing",
    "treated",
]
