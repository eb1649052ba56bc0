"""The phase changes of one run, its loss bump, and what else changes, with their verdicts: `find_changes`."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from induction_bump.locate.change import DRAWS, find_change
from induction_bump.locate.curve import Curve, TooFewSnapshotsError, noise_of_stderrs
from induction_bump.locate.further import find_further
from induction_bump.locate.loss_bump import LEAST_HEIGHT, LEVEL, find_loss_bump
from induction_bump.locate.one_thread import one_thread
from induction_bump.locate.outcome import LocatedChange, judged, moment_of, random_of, unsolved
from induction_bump.locate.quantities import Quantity, copy_advantage, icl, prefix_matching
from induction_bump.locate.reading import NotApplicableError, Reading, finite
from induction_bump.records.directory import RunDirectory

CHANGES: dict[str, Callable[[Reading], Quantity]] = {
    "icl_change": icl,
    "copy_advantage_change": copy_advantage,
    "prefix_matching_change": prefix_matching,
}
"""Quantities of which a phase change is looked for, by the name of the event that it makes."""
LOSS_BUMP = "loss_bump"


def find_changes(run: RunDirectory) -> list[LocatedChange]:
    """The changes of a run in the order of CHANGES, its loss bump, and further changes where there are any.

    Read is what is committed so far.
    What is drawn at random is drawn from the run's id, so that the same records give the same answer.
    Raises RecordsError where the records cannot be read.
    """
    reading = Reading(run)
    with one_thread():
        found = [_change(reading, event, quantity) for event, quantity in CHANGES.items()]
        return [*found, _loss_bump(reading), *find_further(reading, found[0])]


def _change(reading: Reading, event: str, quantity_of: Callable[[Reading], Quantity]) -> LocatedChange:
    if reading.scalars.empty:
        return LocatedChange(event, "", "not_applicable", "no snapshot yet")
    name = ""
    try:
        quantity = quantity_of(reading)
        name = quantity.name
        change = find_change(
            quantity.curve,
            direction=quantity.direction,
            random=random_of(reading.info.run_id, event),
            least_final=quantity.least_final,
        )
    except (NotApplicableError, TooFewSnapshotsError) as reason:
        return LocatedChange(event, "", "not_applicable", str(reason))
    except np.linalg.LinAlgError as error:
        return unsolved(event, name, error)
    return judged(event, quantity, change)


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
    except (NotApplicableError, TooFewSnapshotsError) as reason:
        return LocatedChange(LOSS_BUMP, "loss", "not_applicable", str(reason))
    except np.linalg.LinAlgError as error:
        return unsolved(LOSS_BUMP, "loss", error)
    bounds = " to ".join(f"{bump.height + z * bump.stderr:.3f}" for z in (-1.645, 1.645))
    rule = (
        f"held-out loss lies {bounds} nats above the convex curve below it (at least {LEAST_HEIGHT:g} for a bump), "
        f"p {'≤' if bump.p <= LEVEL else '='} {bump.p:.3f} against a convex curve with noise"
    )
    if not bump.found:
        return LocatedChange(LOSS_BUMP, "loss", "not_found", rule, bump=bump)
    low, high = moment_of(curve, bump.low), moment_of(curve, bump.high)
    return LocatedChange(LOSS_BUMP, "loss", "found", rule, bump=bump, low=low, high=high)


def _steady(reading: Reading, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Snapshots after warm-up at which the learning rate is that of the one before and after."""
    training = reading.training
    rates, at = training.column("learning_rate").to_numpy(), training.column("tokens").to_numpy()
    after = reading.warm(tokens)
    if not len(rates):
        return after
    constant = np.isclose(rates, rates.max(), rtol=1e-6)
    return after & (np.interp(tokens.astype(np.float64), at, constant.astype(np.float64)) == 1.0)
