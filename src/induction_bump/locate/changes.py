"""The phase changes of one run, and its loss bump, with their verdicts: `find_changes`."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from induction_bump.locate.change import DRAWS, Change, TooFewSnapshotsError, find_change
from induction_bump.locate.curve import Curve, noise_of_stderrs
from induction_bump.locate.loss_bump import LEAST_HEIGHT, LEVEL, LossBump, find_loss_bump
from induction_bump.locate.moments import Moment
from induction_bump.locate.quantities import Quantity, copy_advantage, icl, prefix_matching
from induction_bump.locate.reading import NotApplicableError, Reading, finite, out_of_warmup
from induction_bump.locate.verdict import FOUND, judge
from induction_bump.records.directory import RunDirectory

CHANGES: dict[str, Callable[[Reading], Quantity]] = {
    "icl_change": icl,
    "copy_advantage_change": copy_advantage,
    "prefix_matching_change": prefix_matching,
}
"""Quantities of which a phase change is looked for, by the name of the event that it makes."""
LOSS_BUMP = "loss_bump"


@dataclass(frozen=True)
class LocatedChange:
    """What is known about one change of one run."""

    event: str
    """A key of CHANGES, or LOSS_BUMP."""
    quantity: str
    verdict: str
    """One of `verdict.Verdict`; of the loss bump `found` or `not_found`."""
    rule: str
    """The rule with the numbers that were used; for `not_applicable` the reason."""
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


def find_changes(run: RunDirectory) -> list[LocatedChange]:
    """The changes of a run in the order of CHANGES, and its loss bump, from what is committed so far.

    What is drawn at random is drawn from the run's id, so that the same records give the same answer.
    Raises RecordsError where the records cannot be read.
    """
    reading = Reading(run)
    found = [_change(reading, event, quantity) for event, quantity in CHANGES.items()]
    return [*found, _loss_bump(reading)]


def random_of(run_id: str, what: str) -> np.random.Generator:
    """The generator of one search in one run."""
    return np.random.default_rng(list(hashlib.sha256(f"{run_id}/{what}".encode()).digest()[:16]))


def _change(reading: Reading, event: str, quantity_of: Callable[[Reading], Quantity]) -> LocatedChange:
    if reading.scalars.empty:
        return LocatedChange(event, "", "not_applicable", "no snapshot yet")
    try:
        quantity = quantity_of(reading)
        change = find_change(
            quantity.curve,
            direction=quantity.direction,
            random=random_of(reading.info.run_id, event),
            least_final=quantity.least_final,
        )
    except (NotApplicableError, TooFewSnapshotsError) as reason:
        return LocatedChange(event, "", "not_applicable", str(reason))
    verdict, rule = judge(change, quantity.least_drop, quantity.unit)
    located = LocatedChange(event, quantity.name, verdict, rule, change)
    if change.place is None or not located.found:
        return located
    low, high = _around(quantity.curve, change.place.onset.value, change.place.end.value)
    return LocatedChange(event, quantity.name, verdict, rule, change, low=low, high=high)


def _around(curve: Curve, onset: float, end: float) -> tuple[Moment, Moment]:
    """The last snapshot up to the onset, and the first from the end on."""
    low = int(np.searchsorted(curve.tokens, onset, side="right")) - 1
    high = int(np.searchsorted(curve.tokens, end, side="left"))
    return _moment(curve, max(low, 0)), _moment(curve, min(high, len(curve) - 1))


def _moment(curve: Curve, i: int) -> Moment:
    return Moment(int(curve.steps[i]), int(curve.tokens[i]))


def _loss_bump(reading: Reading) -> LocatedChange:
    if reading.scalars.empty:
        return LocatedChange(LOSS_BUMP, "", "not_applicable", "no snapshot yet")
    try:
        rows = reading.scalar("loss")
        values = finite(rows["value"].to_numpy(np.float64), "loss")
        tokens = rows["tokens"].to_numpy(np.int64)
        probe = noise_of_stderrs(rows["stderr"].to_numpy(np.float64))
        curve = Curve(rows["step"].to_numpy(np.int64), tokens, values, probe).part(_steady(reading, tokens))
        bump = find_loss_bump(curve, draws=DRAWS, random=random_of(reading.info.run_id, LOSS_BUMP))
    except (NotApplicableError, ValueError) as reason:
        return LocatedChange(LOSS_BUMP, "loss", "not_applicable", str(reason))
    bounds = " to ".join(f"{bump.height + z * bump.stderr:.3f}" for z in (-1.645, 1.645))
    rule = (
        f"held-out loss lies {bounds} nats above the convex curve below it (at least {LEAST_HEIGHT:g} for a bump), "
        f"p {'≤' if bump.p <= LEVEL else '='} {bump.p:.3f} against a convex curve with noise"
    )
    if not bump.found:
        return LocatedChange(LOSS_BUMP, "loss", "not_found", rule, bump=bump)
    low, high = _moment(curve, bump.low), _moment(curve, bump.high)
    return LocatedChange(LOSS_BUMP, "loss", "found", rule, bump=bump, low=low, high=high)


def _steady(reading: Reading, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Snapshots after warm-up at which the learning rate is that of the one before and after."""
    training = reading.run.table("training")
    rates, at = training.column("learning_rate").to_numpy(), training.column("tokens").to_numpy()
    after = (tokens > 0) & (tokens >= out_of_warmup(reading))
    if not len(rates):
        return after
    constant = np.isclose(rates, rates.max(), rtol=1e-6)
    return after & (np.interp(tokens.astype(np.float64), at, constant.astype(np.float64)) == 1.0)
