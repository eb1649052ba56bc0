"""The noise of a curve: the probe's examples, the jitter of training, and drifts that are no straight lines.

    Σ = probe + s² · exp(−|t_i − t_j| / τ) + κ² · K(x_i, x_j)

The jitter is the same for all examples and forgets itself over τ tokens: an AR(1) where snapshots are equally far from
each other. K is the covariance of an integrated random walk in x = ln(tokens), the prior of a cubic smoothing spline
(Wahba 1978): a drift whose slope wanders. s, τ and κ are estimated by restricted maximum likelihood (Patterson &
Thompson 1971) on a grid, which also says how well they are known.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from induction_bump.locate.curve import Array, Curve, correlations

PHIS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.96)
"""Correlations of the jitter over the usual (median) distance between snapshots."""
SIZES = 8
"""Standard deviations of the jitter that are tried."""
WANDERING = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0)
"""κ that are tried, in units of the range of the values for a range of 1 in x."""
_RELUCTANCE = 2.0
"""By how much ln(likelihood) must be larger for a drift that wanders: jitter that lasts looks much like one."""
_LEAST = 1e-9


@dataclass(frozen=True)
class Noise:
    """Covariance of a curve of S snapshots, as far as it is known."""

    covariances: Array
    """M × S × S: those that the residuals allow, best first."""
    weights: Array
    """M: how likely each is, in proportion to its restricted likelihood."""
    phi: float
    """Correlation of the jitter over the median distance between snapshots, of the best."""
    jitter: float
    """Standard deviation of the jitter of the best."""
    wandering: float
    """κ of the best, in units of the values."""
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


def fit_noise(curve: Curve, design: Array, *, wanders: bool) -> Noise:
    """Noise of a curve whose mean lies in the span of a design's p columns (S × p); wanders: whether κ may be above 0.

    Raises ValueError where there are not at least two snapshots more than columns.
    """
    n, p = design.shape
    if n < p + 2:
        raise ValueError(f"{n} snapshots are too few for the noise about {p} columns")
    tokens = curve.tokens.astype(np.float64)
    fitted = design @ np.linalg.lstsq(design, curve.values, rcond=None)[0]
    scale = max(float(np.sqrt(((curve.values - fitted) ** 2).sum() / (n - p))), _LEAST)
    kappas = np.array(WANDERING if wanders else (0.0,)) * np.ptp(curve.values) / np.ptp(curve.x) ** 1.5
    sizes = np.concatenate([[1e-3], np.geomspace(0.1, 3.0, SIZES - 1)]) * scale
    grid = [(s, phi, size, k) for s in curve.probe.shares for phi in PHIS for size in sizes for k in kappas]
    spline, ridge = wandering(curve.x), (1e-4 * scale) ** 2 * np.eye(n)
    probes = {s: curve.probe.covariance(tokens, s) + ridge for s in curve.probe.shares}
    jitters = {phi: correlations(tokens, phi) for phi in PHIS}

    def covariance(share: float, phi: float, size: float, kappa: float) -> Array:
        return probes[share] + size**2 * jitters[phi] + kappa**2 * spline

    stacked = np.column_stack([design, curve.values])
    likelihoods = np.array([_restricted_likelihood(covariance(*sizes), stacked) for sizes in grid])
    likelihoods -= _RELUCTANCE * np.array([k > 0 for *_, k in grid])
    order = np.argsort(-likelihoods, kind="stable")
    kept = order[likelihoods[order] > likelihoods.max() - 6.0]
    weights = np.exp(likelihoods[kept] - likelihoods.max())
    covariances = np.array([covariance(*grid[i]) for i in kept])
    _, phi, size, kappa = grid[order[0]]
    lasting = covariances[0] - size**2 * jitters[phi]
    return Noise(covariances, weights / weights.sum(), phi, float(size), float(kappa), lasting)


def _restricted_likelihood(covariance: Array, stacked: Array) -> float:
    """ln of the restricted likelihood of an S × S covariance, up to a constant.

    stacked: S × (p + 1), design and values. One covariance at a time, as it then stays in the cache.
    """
    from scipy.linalg import solve_triangular  # slow to load

    root = np.linalg.cholesky(covariance)
    whitened = solve_triangular(root, stacked, lower=True, check_finite=False)
    # the last diagonal entry of R is the norm of what the design leaves of the values
    diagonal = np.abs(np.diagonal(np.linalg.qr(whitened, mode="r")))
    log_design = np.log(np.maximum(diagonal[:-1], 1e-300)).sum()
    return float(-np.log(np.diagonal(root)).sum() - log_design - 0.5 * diagonal[-1] ** 2)
