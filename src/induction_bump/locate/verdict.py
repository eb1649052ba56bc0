"""What is said about a phase change, and by which rule (docs/locating.md#the-test-the-intervals-the-verdict)."""

from typing import Literal

from induction_bump.locate.change import ABRUPT, LEVEL, Change
from induction_bump.locate.placing import Range

Verdict = Literal["abrupt", "gradual", "none", "undetermined", "not_applicable"]
"""What is known about a change:

| verdict | it changes more than drifts do, by at least the least drop, and |
|---|---|
| `abrupt` | ln(end/onset) is at most ln 3 |
| `gradual` | it is more |
| `none` | – no ramp so steep and so large can be there |
| `undetermined` | – the records are compatible with more than one of these, or a fit came to no result |
| `not_applicable` | – the run holds no such quantity, or too few snapshots of it |

All bounds are those of 90 % intervals.
"""

FOUND = ("abrupt", "gradual")


def judge(change: Change, least: float, unit: str) -> tuple[Verdict, str]:
    """The verdict on a change whose drop is to be at least `least`, and the rule with the numbers that it was given."""
    place = change.place
    test = f"p {'≤' if place else '='} {change.p:.3f} against {_article(change.drift)}"
    if place is None:
        hidden = f"the largest ramp up to ln 3 wide that it can hide has {change.most_drop:.2g}{unit}"
        verdict: Verdict = "none" if change.most_drop < least else "undetermined"
        sign = "<" if verdict == "none" else "≥"
        why = f"(> {LEVEL:g})" if change.p > LEVEL else "but no ramp that stands out of the noise"
        return verdict, f"{verdict}: {test} {why}, and {hidden} {sign} {least:g}"
    width, drop = place.width, place.drop
    large, small = drop.low >= least, drop.high < least
    if small:
        verdict = "none"
    elif large and width.high <= ABRUPT:
        verdict = "abrupt"
    elif large and width.low > ABRUPT:
        verdict = "gradual"
    else:
        verdict = "undetermined"
    size = f"drop {_bounds(drop)}{unit} {'≥' if large else '<' if small else 'on both sides of'} {least:g}"
    steep = f"ln(end/onset) {_bounds(width)} {_against(width)} ln 3 = {ABRUPT:.2f}"
    return verdict, f"{verdict}: {test}, {size}, {steep}"


def _against(width: Range) -> str:
    if width.high <= ABRUPT:
        return "≤"
    return ">" if width.low > ABRUPT else "on both sides of"


def _bounds(interval: Range) -> str:
    return f"{interval.low:.2f}…{interval.high:.2f}"


def _article(drift: str) -> str:
    return {"cubic": "a cubic drift", "bend": "a drift that bends", "surrogate drift": "surrogates"}.get(
        drift, f"a {drift}"
    )
