"""The noise of a curve: the probe's examples, the jitter of training, and drifts that are no straight lines.

    Σ = probe + s² · exp(−|t_i − t_j| / τ) + departure

The jitter is the same for all examples and forgets itself over τ tokens: an AR(1) where snapshots are equally far from
each other. Drifts depart from straight lines in one of two ways, if at all. They wander: κ² · K(x_i, x_j), the
covariance of an integrated random walk in x = ln(tokens), which is the prior of a cubic smoothing spline (Wahba 1978).
Or they relax after the end of the ramp: Σ_ρ g_ρ · (1 − exp(−(x − end)/ρ)), g_ρ of standard deviation κ. All sizes are
estimated by restricted maximum likelihood (Patterson & Thompson 1971) on a grid, which also says how well they are
known.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from induction_bump.locate.curve import Array, Curve, correlations

PHIS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.96)
"""Correlations of the jitter over the usual (median) distance between snapshots."""
SIZES = 8
"""Standard deviations of the jitter that are tried."""
WANDERING = (0.03, 0.1, 0.3, 1.0, 3.0)
"""κ that are tried, in units of the range of the values for a range of 1 in x."""
RELAXING = (0.05, 0.2, 0.6)
"""κ that are tried, in units of the range of the values."""
RELAXING_OVER = (0.25, 1.0)
"""ρ, in e-folds of tokens: both at once, so that rates between them are near."""
_RELUCTANCE = 1.0
"""By how much ln(likelihood) must be larger for a drift that departs: jitter that lasts looks much like one."""
_UNLIKELY = 6.0
"""Sizes whose ln(likelihood) is so much less than that of the best are left out."""
_LEAST = 1e-9


@dataclass(frozen=True)
class Relaxation:
    """What is gained after a ramp, at a rate that falls off: how much of it there may be."""

    size: float
    """κ, the standard deviation of what is gained at each rate in the end, in units of the values."""

    def columns(self, x: Array, end: Array) -> list[Array]:
        """κ · (1 − exp(−(x − end)/ρ)) after the end, 0 before, for each ρ."""
        after = np.maximum(x - end, 0.0)
        return [self.size * (1 - np.exp(-after / over)) for over in RELAXING_OVER]


@dataclass(frozen=True)
class Noise:
    """Covariance of a curve of S snapshots, as far as it is known."""

    covariances: Array
    """M × S × S: those that the residuals allow, best first."""
    weights: Array
    """M: how likely each is, in proportion to its restricted likelihood (less for one with departing drifts)."""
    phi: float
    """Correlation of the jitter over the median distance between snapshots, of the best."""
    jitter: float
    """Standard deviation of the jitter of the best."""
    wandering: float
    """κ of the best where its drifts wander, in units of the values."""
    relaxation: Relaxation | None
    """Of the best, where its drifts relax. It is no part of the covariances: ramps have it as a column with a prior."""
    lasting: Array
    """S × S: the covariance of the best without its jitter: the wandering, and this probe's own departure."""

    @property
    def covariance(self) -> Array:
        """S × S: the best."""
        return self.covariances[0]

    @cached_property
    def whitening(self) -> Array:
        """S × S: W with W Σ Wᵀ = 1."""
        return np.asarray(np.linalg.inv(np.linalg.cholesky(self.covariance)), np.float64)

    def lasted(self, residuals: Array) -> Array:
        """S: what of S residuals is most likely not jitter (the best linear predictor)."""
        return self.lasting @ (self.whitening.T @ (self.whitening @ residuals))

    def draw(self, n: int, random: np.random.Generator) -> Array:
        """S × n: curves of noise, each of a covariance that is drawn by its weight."""
        chosen = random.choice(len(self.weights), size=n, p=self.weights)
        drawn = random.standard_normal((self.covariances.shape[1], n))
        for k in np.unique(chosen):
            of_it = chosen == k
            drawn[:, of_it] = np.linalg.cholesky(self.covariances[k]) @ drawn[:, of_it]
        return drawn


def wandering(x: Array) -> Array:
    """S × S: covariance of an integrated random walk that starts at the first of S places."""
    from_first = x - x[0]
    less = np.minimum(from_first[:, None], from_first[None, :])
    more = np.maximum(from_first[:, None], from_first[None, :])
    return less**2 * (3 * more - less) / 6


@dataclass(frozen=True)
class _Sizes:
    """One point of the grid: sizes of all that makes the noise."""

    share: float
    phi: float
    jitter: float
    wandering: float
    relaxation: Relaxation | None

    @property
    def departs(self) -> bool:
        return self.wandering > 0 or self.relaxation is not None


def fit_noise(curve: Curve, design: Array, end: float | None = None) -> Noise:
    """Noise of a curve whose mean lies in the span of a design's p columns (S × p).

    end: of the ramp, in ln tokens; where it is given, drifts may depart from the design.
    Raises ValueError where there are not at least two snapshots more than columns.
    """
    n, p = design.shape
    if n < p + 2:
        raise ValueError(f"{n} snapshots are too few for the noise about {p} columns")
    fitted = design @ np.linalg.lstsq(design, curve.values, rcond=None)[0]
    scale = max(float(np.sqrt(((curve.values - fitted) ** 2).sum() / (n - p))), _LEAST)
    parts = _Parts(curve, scale)
    tried, likelihoods = list[_Sizes](), list[float]()
    for alike in _grid(curve, scale, departs=end is not None):
        gained = [np.column_stack(of.relaxation.columns(curve.x, np.array(end))) for of in alike if of.relaxation]
        tried += alike
        likelihoods += _restricted_likelihoods(parts.covariance(alike[0]), design, curve.values, gained)
    reluctant = np.array(likelihoods) - _RELUCTANCE * np.array([of.departs for of in tried])
    order = np.argsort(-reluctant, kind="stable")
    kept = order[reluctant[order] > reluctant.max() - _UNLIKELY]
    weights = np.exp(reluctant[kept] - reluctant.max())
    best = tried[order[0]]
    covariances = np.array([parts.covariance(tried[i]) for i in kept])
    return Noise(
        covariances=covariances,
        weights=weights / weights.sum(),
        phi=best.phi,
        jitter=best.jitter,
        wandering=best.wandering,
        relaxation=best.relaxation,
        lasting=parts.lasting(best),
    )


class _Parts:
    """What the noise of a curve is summed from."""

    def __init__(self, curve: Curve, scale: float) -> None:
        tokens = curve.tokens.astype(np.float64)
        ridge = (1e-4 * scale) ** 2 * np.eye(len(curve))
        self._probe = {share: curve.probe.covariance(tokens, share) + ridge for share in curve.probe.shares}
        self._jitter = {phi: correlations(tokens, phi) for phi in PHIS}
        self._wandering = wandering(curve.x)

    def lasting(self, of: _Sizes) -> Array:
        """S × S: all but the jitter."""
        return self._probe[of.share] + of.wandering**2 * self._wandering

    def covariance(self, of: _Sizes) -> Array:
        """S × S."""
        return self.lasting(of) + of.jitter**2 * self._jitter[of.phi]


def _grid(curve: Curve, scale: float, *, departs: bool) -> Iterator[list[_Sizes]]:
    """Sizes of one covariance at a time: those of a drift that does not relax, then of those that do."""
    size = float(np.ptp(curve.values))
    kappas, relaxations = [0.0], list[Relaxation]()
    if departs:
        kappas += [kappa * size / float(np.ptp(curve.x)) ** 1.5 for kappa in WANDERING]
        relaxations = [Relaxation(kappa * size) for kappa in RELAXING]
    jitters = (np.concatenate([[1e-3], np.geomspace(0.1, 3.0, SIZES - 1)]) * scale).tolist()
    for share, phi, jitter, kappa in itertools.product(curve.probe.shares, PHIS, jitters, kappas):
        straight = _Sizes(share, phi, jitter, kappa, None)
        yield [straight, *(replace(straight, relaxation=r) for r in relaxations if not kappa)]


def _restricted_likelihoods(
    covariance: Array, design: Array, values: Array, relaxations: Sequence[Array]
) -> Iterator[float]:
    """ln of the restricted likelihood of an S × S covariance, up to a constant: without, then with each relaxation.

    design: S × p; values: S; relaxations: S × k each, in units of their standard deviation. One covariance at a time,
    as it then stays in the cache.
    """
    from scipy.linalg import solve_triangular  # slow to load

    root = np.linalg.cholesky(covariance)
    whitened = solve_triangular(root, np.column_stack([values, design, *relaxations]), lower=True, check_finite=False)
    log_root, p, k = float(np.log(np.diagonal(root)).sum()), design.shape[1], len(RELAXING_OVER)
    for first in (None, *range(p + 1, whitened.shape[1], k)):
        columns = whitened[:, 1 : p + 1]
        y = whitened[:, :1]
        if first is not None:  # a prior is an observation more
            columns = np.block([[columns, whitened[:, first : first + k]], [np.zeros((k, p)), np.eye(k)]])
            y = np.vstack([y, np.zeros((k, 1))])
        # the last diagonal entry of R is the norm of what the design leaves of the values
        diagonal = np.abs(np.diagonal(np.linalg.qr(np.column_stack([columns, y]), mode="r")))
        yield -log_root - float(np.log(np.maximum(diagonal[:-1], 1e-300)).sum() + 0.5 * diagonal[-1] ** 2)
