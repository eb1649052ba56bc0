"""The loss bump: a place where held-out loss, against tokens, is not convex beyond noise.

Defined in docs/locating.md#the-test-the-intervals-the-verdict.

Loss that only ever slows its fall is a convex function of tokens. The best convex curve through S losses, of all curves
(least squares with the probe's covariance), is held against the losses themselves: T = the whitened sum of squares
between the two. T on curves drawn from the convex fit and the probe's noise says how large it becomes by chance. The
bump itself is where the convex fit runs below the losses: from where the curve leaves it to where it comes back.

Looked at is what lies after warm-up, where the learning rate is constant: each change of the learning rate bends the
curve on its own.
"""

from dataclasses import dataclass

import numpy as np

from induction_bump.locate.curve import Array, Curve, TooFewSnapshotsError
from induction_bump.locate.noise import Noise

LEVEL = 0.01
LEAST_HEIGHT = 0.1
"""Nats. A loss can be a little concave over a long stretch, as where one layer slowly learns what its context holds; a
bump is more than that."""
LEAST_SNAPSHOTS = 8
_LEAST_JITTER = 1e-6
"""Of the largest standard error."""


@dataclass(frozen=True)
class LossBump:
    """How far a curve is from convex, and where."""

    p: float
    """How often noise makes a convex curve look so far from convex."""
    height: float
    """Nats: the most by which the losses lie above the convex curve below them."""
    stderr: float
    """Standard error of `height` where it is most, of the probe's noise in the three losses that it is made of."""
    tokens: int
    """Where that is."""
    low: int
    """Snapshots, as indices into the curve, between which the losses leave that convex curve and come back to it."""
    high: int
    value_before: float
    """Loss at `low`."""
    value_after: float
    """And at `high`."""

    @property
    def found(self) -> bool:
        """Whether there is one beyond noise, and of at least LEAST_HEIGHT with 95 % confidence."""
        return self.p <= LEVEL and self.height - 1.645 * self.stderr >= LEAST_HEIGHT


def find_loss_bump(curve: Curve, *, draws: int, random: np.random.Generator) -> LossBump:
    """Hold a curve of S losses against the best convex one.

    Raises TooFewSnapshotsError for fewer than LEAST_SNAPSHOTS, LinAlgError where a fit comes to no result.
    """
    if len(curve) < LEAST_SNAPSHOTS:
        raise TooFewSnapshotsError(
            f"{len(curve)} snapshots at a constant learning rate; {LEAST_SNAPSHOTS} are the least"
        )
    tokens = curve.tokens.astype(np.float64)
    place = (tokens - tokens[0]) / np.ptp(tokens)
    noise = _noise_about_any_shape(curve, place)
    convex = ConvexFit(place, noise.whitening)
    fitted, seen = convex.fit(curve.values)
    drawn = fitted[:, None] + noise.draw(draws, random)
    by_chance = np.array([convex.fit(values)[1] for values in drawn.T])
    hull = lower_hull(place, curve.values)
    above = curve.values - np.interp(place, place[hull], curve.values[hull])
    peak = int(above.argmax())
    at = int(np.searchsorted(hull, peak, side="right"))
    low, high = (int(hull[at - 1]), int(hull[min(at, len(hull) - 1)]))
    weight = (place[peak] - place[low]) / (place[high] - place[low]) if high > low else 0.0
    contrast = np.zeros(len(curve))
    contrast[peak] += 1
    contrast[low] -= 1 - weight
    contrast[high] -= weight
    stderr = float(np.sqrt(contrast @ noise.covariance @ contrast))
    p = float((1 + (by_chance >= seen).sum()) / (draws + 1))
    before, after = float(curve.values[low]), float(curve.values[high])
    return LossBump(p, float(above[peak]), stderr, int(curve.tokens[peak]), low, high, before, after)


def _noise_about_any_shape(curve: Curve, place: Array) -> Noise:
    """The probe's error, common to all snapshots, and jitter as large as neighbours leave of the snapshot between them.

    The median of their absolute differences, so that the few snapshots inside a bump do not count: no smooth curve
    follows both a bump and its absence.
    """
    weight = (place[1:-1] - place[:-2]) / (place[2:] - place[:-2])
    between = curve.values[1:-1] - (1 - weight) * curve.values[:-2] - weight * curve.values[2:]
    # of independent jitter this has the variance of the jitter times what it is divided by
    scaled = between / np.sqrt(1 + weight**2 + (1 - weight) ** 2)
    common = np.sqrt(curve.probe.variance)
    # less beside the common error would be lost to rounding, and the covariance with it
    jitter = max(1.4826 * float(np.median(np.abs(scaled))), _LEAST_JITTER * float(common.max()), 1e-9)
    covariance = np.outer(common, common) + jitter**2 * np.eye(len(curve))
    return Noise(
        covariances=covariance[None],
        weights=np.ones(1),
        phi=0.0,
        jitter=jitter,
        wandering=0.0,
        relaxation=None,
        lasting=np.outer(common, common),
    )


class ConvexFit:
    """Least squares on convex functions of S places, as a cone: a line, plus hinges with coefficients of at least 0."""

    def __init__(self, place: Array, whitening: Array) -> None:
        hinges = np.maximum(place[:, None] - place[None, 1:-1], 0.0)
        # a line has either sign: both signs of constant and slope are columns
        line = np.column_stack([np.ones_like(place), place])
        self._design = np.column_stack([line, -line, hinges])
        self._whitening = whitening
        self._whitened = whitening @ self._design

    def fit(self, values: Array) -> tuple[Array, float]:
        """The convex curve (S) that is next to the values, and the whitened sum of squares between them.

        Raises LinAlgError where the search for it does not end.
        """
        from scipy import optimize

        try:
            coefficients, left = optimize.nnls(self._whitened, self._whitening @ values, maxiter=100 * len(values))
        except RuntimeError as error:
            raise np.linalg.LinAlgError("the search for the nearest convex curve does not end") from error
        return self._design @ coefficients, float(left) ** 2


def lower_hull(place: Array, values: Array) -> np.ndarray:
    """Indices of the corners of the greatest convex function below the points (Andrew's monotone chain)."""
    corners: list[int] = []
    for i in range(len(place)):
        while len(corners) > 1:
            a, b = corners[-2:]
            cross = (place[b] - place[a]) * (values[i] - values[a]) - (values[b] - values[a]) * (place[i] - place[a])
            if cross > 0:
                break
            corners.pop()
        corners.append(i)
    return np.array(corners)
