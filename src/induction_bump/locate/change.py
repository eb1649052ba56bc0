"""Whether a curve has a phase change: the best drift is held against the best ramp.

Defined in docs/locating.md#the-test-the-intervals-the-verdict.

Both are fitted by generalised least squares with the noise that the drift leaves. How large the ratio of their
residuals becomes by chance is seen on curves drawn from the drift and its noise (a parametric bootstrap). Where it is
larger than chance makes it, placing.py says when and how much.
"""

import math
from dataclasses import dataclass

import numpy as np

from induction_bump.locate.curve import Array, Curve, TooFewSnapshotsError
from induction_bump.locate.drift import DriftSearch, fit_drift
from induction_bump.locate.noise import Noise
from induction_bump.locate.placing import PARAMETERS, Place, Placing
from induction_bump.locate.ramp import RampFit, RampSearch, coarse_ramps

LEVEL = 0.01
"""A change is one where drifts with noise look so much like one at most this often."""
LEAST_SNAPSHOTS = 12
DRAWS = 199
ABRUPT = math.log(3)


@dataclass(frozen=True)
class Change:
    """Whether a curve changes more than drifts do."""

    p: float
    """How often drifts with noise look at least so much like a change."""
    drift: str
    """The drift that it was held against."""
    most_drop: float
    """Upper bound of the drop of any ramp no wider than ABRUPT, were the curve a drift: what could be hidden in it. Of
    ramps that leave half their width of drift to be seen on either side; others are like drifts that bend."""
    n: int
    """Snapshots."""
    place: Place | None
    """None where p is above LEVEL, or no ramp stands out of the noise."""


def find_change(
    curve: Curve, *, direction: int, random: np.random.Generator, least_final: float | None = None, draws: int = DRAWS
) -> Change:
    """Hold the best ramp of a curve against the best drift, and place it where it is better than chance.

    direction: −1 for one that falls, +1 for one that rises; least_final: the least value at the last snapshot of which
    a share is told (never one where it is None); draws: how many curves the test draws; p is no less than
    1/(draws + 1).
    Raises TooFewSnapshotsError for a curve of fewer than LEAST_SNAPSHOTS snapshots, LinAlgError where a fit comes to
    no result.
    """
    if len(curve) < LEAST_SNAPSHOTS:
        raise TooFewSnapshotsError(f"{len(curve)} snapshots; {LEAST_SNAPSHOTS} are the least")
    if not np.ptp(curve.values):
        raise TooFewSnapshotsError("the same value at every snapshot")
    signed = Curve(curve.steps, curve.tokens, direction * curve.values, curve.probe)
    drift = fit_drift(signed)
    grid = coarse_ramps(signed.x)
    against = RampSearch(signed.x, grid, drift.noise.whitening)
    first = against.fit(signed.values[:, None])
    p = _p_value(signed, drift.fitted, drift.noise, against, first, draws, random)
    most_drop = _most_drop(against, first, signed.x)
    place = None
    if p <= LEVEL:
        placing = Placing.about(signed, grid, first.best(grid), DRAWS, random)
        place = placing and placing.described(direction, least_final)
    return Change(p, drift.name, most_drop, len(curve), place)


def _p_value(
    curve: Curve,
    fitted: Array,
    noise: Noise,
    ramps: RampSearch,
    first: RampFit,
    draws: int,
    random: np.random.Generator,
) -> float:
    drifts = DriftSearch(curve.x, noise.whitening)
    seen = drifts.least(curve.values[:, None]) / first.rising().min(0)
    drawn = fitted[:, None] + noise.draw(draws, random)
    by_chance = drifts.least(drawn) / ramps.fit(drawn).rising().min(0)
    return float((1 + (by_chance >= seen).sum()) / (draws + 1))


def _most_drop(ramps: RampSearch, fit: RampFit, x: Array) -> float:
    grid = ramps.ramps
    scale = np.sqrt(fit.drop_variance * fit.rss[:, 0].min() / (len(x) - PARAMETERS))
    room = np.minimum(grid.onset - x[0], x[-1] - grid.end) >= grid.width / 2
    told = (grid.width <= ABRUPT) & room & np.isfinite(fit.rss[:, 0])
    return float((fit.drop[:, 0] + 1.645 * scale)[told].max(initial=0.0))
