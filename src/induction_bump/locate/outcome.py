"""What is said about one change of one run: `LocatedChange`."""

import hashlib
from dataclasses import dataclass

import numpy as np

from induction_bump.locate.change import Change
from induction_bump.locate.curve import Curve
from induction_bump.locate.loss_bump import LossBump
from induction_bump.locate.moments import Moment
from induction_bump.locate.quantities import Quantity
from induction_bump.locate.verdict import FOUND, judge


@dataclass(frozen=True)
class LocatedChange:
    """What is known about one change of one run."""

    event: str
    """A key of `changes.CHANGES`, `loss_bump`, or one of `further.FURTHER`."""
    quantity: str
    verdict: str
    """One of `verdict.Verdict`; of the loss bump `found` or `not_found` in place of the first three."""
    rule: str
    """The rule with the numbers that were used; the reason where none could be applied."""
    change: Change | None = None
    bump: LossBump | None = None
    low: Moment | None = None
    """The last snapshot before the onset, where a change was found."""
    high: Moment | None = None
    """The first after the end."""

    @property
    def found(self) -> bool:
        """Whether the records show it."""
        return self.verdict in (*FOUND, "found")


def judged(event: str, quantity: Quantity, change: Change) -> LocatedChange:
    """A change with its verdict and, where it was found, the snapshots around it."""
    verdict, rule = judge(change, quantity.least_drop, quantity.unit)
    low = high = None
    if change.place and verdict in FOUND:
        low, high = _around(quantity.curve, change.place.onset.value, change.place.end.value)
    return LocatedChange(event, quantity.name, verdict, rule, change, low=low, high=high)


def unsolved(event: str, quantity: str, error: np.linalg.LinAlgError) -> LocatedChange:
    """A change of which nothing is known, because a fit came to no result."""
    return LocatedChange(event, quantity, "undetermined", f"undetermined: a fit came to no result ({error})")


def _around(curve: Curve, onset: float, end: float) -> tuple[Moment, Moment]:
    """The last snapshot up to the onset, and the first from the end on."""
    low = int(np.searchsorted(curve.tokens, onset, side="right")) - 1
    high = int(np.searchsorted(curve.tokens, end, side="left"))
    return moment_of(curve, max(low, 0)), moment_of(curve, min(high, len(curve) - 1))


def moment_of(curve: Curve, i: int) -> Moment:
    """The snapshot of a curve at an index."""
    return Moment(int(curve.steps[i]), int(curve.tokens[i]))


def random_of(run_id: str, what: str) -> np.random.Generator:
    """The generator of one search in one run."""
    return np.random.default_rng(list(hashlib.sha256(f"{run_id}/{what}".encode()).digest()[:16]))
