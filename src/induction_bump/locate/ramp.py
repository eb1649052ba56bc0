"""Curves that change between two moments: drift, ramp, drift, with sharp or rounded corners.

In z = (x − onset)/(end − onset), x = ln(tokens), a curve is a + b·x + drop · A(z) + bend · (end − onset) · B(z): A
rises from 0 to 1, B from 0 to z − ½, so that `drop` is the distance between the two lines of drift, both prolonged to
the midpoint, and `bend` the difference of their slopes. With sharp corners that is the continuous broken line with two
knots. Rounded ones have A′ ∝ σ(z′/ρ₁) · σ((1 − z′)/ρ₂), the logistic curve for large ρ; z is then stretched so that
the tangent at the steepest place goes from 0 at z = 0 to 1 at z = 1: **onset and end of a rounded ramp are where its
steepest tangent meets the levels before and after.**
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from induction_bump.locate.curve import Array
from induction_bump.locate.noise import RELAXING_OVER, Relaxation

ROUNDINGS = (0.0, 0.12, 0.6)
"""ρ of a corner: sharp, rounded, and nearly that of a logistic curve."""
SHAPES = tuple((onset, end) for onset in ROUNDINGS for end in ROUNDINGS)
"""Roundings of a ramp's two corners."""

EDGE = 2
"""Snapshots before the earliest onset and after the latest end, less one: where less is seen, a drift is not known."""
_COARSE = 26
"""Onsets, and ends, on the first grid."""

_Z = np.linspace(-5.0, 6.0, 4401)
_STEP = float(_Z[1] - _Z[0])


@cache
def _tables(shape: tuple[float, float]) -> tuple[Array, Array]:
    """A and B over the grid _Z."""
    z = np.linspace(-14.0, 15.0, 29001)
    rise, fall = _sigmoid(z, shape[0]), _sigmoid(1 - z, shape[1])
    slope = rise * fall
    step = float(z[1] - z[0])
    total = slope.sum() * step
    slope /= total
    height = np.concatenate([[0.0], np.cumsum((slope[1:] + slope[:-1]) / 2) * step])
    height /= height[-1]
    steepest = int(slope.argmax()) if shape != (0.0, 0.0) else int(np.searchsorted(z, 0.5))
    onset = z[steepest] - height[steepest] / slope[steepest]
    end = z[steepest] + (1 - height[steepest]) / slope[steepest]
    stretched = onset + _Z * (end - onset)
    a = np.interp(stretched, z, height)
    b = (_softplus(stretched, shape[0]) + _softplus(stretched - 1, shape[1])) / (2 * (end - onset))
    # after the ramp (stretched − ½)/(end − onset); what that lacks to z − ½ is made up by a share of A
    b += a * ((0.5 - onset) / (end - onset) - 0.5)
    return a, b


def _sigmoid(z: Array, rho: float) -> Array:
    """Of z/ρ; a step for ρ = 0."""
    return (z > 0).astype(np.float64) if rho == 0 else 0.5 * (1 + np.tanh(0.5 * z / rho))


def _softplus(z: Array, rho: float) -> Array:
    """The integral of the same."""
    return np.maximum(z, 0.0) if rho == 0 else rho * np.logaddexp(0.0, z / rho)


@dataclass(frozen=True)
class Ramps:
    """G ramps: their onsets and ends in ln(tokens), and the shapes of their corners as indices into SHAPES."""

    onset: Array
    end: Array
    shape: np.ndarray

    @property
    def width(self) -> Array:
        """ln(end/onset)."""
        return self.end - self.onset

    @property
    def midpoint(self) -> Array:
        """ln of the tokens halfway, on that axis."""
        return (self.onset + self.end) / 2

    def __len__(self) -> int:
        return len(self.onset)

    def take(self, chosen: np.ndarray) -> "Ramps":
        """Some of them."""
        return Ramps(self.onset[chosen], self.end[chosen], self.shape[chosen])

    def columns(self, x: Array) -> tuple[Array, Array]:
        """A and (end − onset) · B of each ramp at S places: G × S each."""
        width = self.width[:, None]
        place = ((x[None, :] - self.onset[:, None]) / width - _Z[0]) / _STEP
        below = np.clip(place, 0, len(_Z) - 2).astype(np.int64)
        part = np.clip(place - below, 0.0, 1.0)
        a, b = np.array([_tables(s) for s in SHAPES]).transpose(1, 0, 2)
        k = self.shape[:, None]
        rising = a[k, below] * (1 - part) + a[k, below + 1] * part
        bending = b[k, below] * (1 - part) + b[k, below + 1] * part
        beyond = place > len(_Z) - 1
        bending = np.where(beyond, (x[None, :] - self.onset[:, None]) / width - 0.5, bending)
        return rising, bending * width


def ramps_between(onsets: Array, ends: Array, shapes: np.ndarray, least: float) -> Ramps:
    """All ramps of some onsets, ends and shapes that are at least so wide (in ln tokens)."""
    onset, end, shape = (grid.ravel() for grid in np.meshgrid(onsets, ends, shapes, indexing="ij"))
    keep = end - onset >= least * (1 - 1e-9)
    return Ramps(onset[keep], end[keep], shape[keep].astype(np.int64))


def coarse_ramps(x: Array) -> Ramps:
    """Ramps between places spread over S snapshots, of every shape: the first grid."""
    places = np.interp(np.linspace(EDGE, len(x) - 1 - EDGE, _COARSE), np.arange(len(x)), x)
    return ramps_between(places, places, np.arange(len(SHAPES)), float(np.diff(places).min()) / 2)


@dataclass(frozen=True)
class RampFit:
    """Generalised least squares of D curves on each of G ramps."""

    rss: Array
    """G × D: the whitened residual sum of squares."""
    drop: Array
    """G × D."""
    drop_variance: Array
    """G: of `drop`, where the noise has the covariance that was whitened away."""

    def rising(self) -> Array:
        """`rss`, infinite where the drop has the wrong sign: what is searched for its least."""
        return np.where(self.drop > 0, self.rss, np.inf)

    def best(self, ramps: Ramps) -> Ramps:
        """The one of G ramps that the first curve rises on with the least residuals."""
        return ramps.take(np.array([int(self.rising()[:, 0].argmin())]))


def designs(x: Array, ramps: Ramps, relaxation: Relaxation | None = None) -> Array:
    """G × S × 4: constant, drift, bend, and the ramp as last column; with a relaxation, its columns before the last."""
    rising, bending = ramps.columns(x)
    gained = relaxation.columns(x, ramps.end[:, None]) if relaxation else []
    drift = np.broadcast_to(x - x.mean(), rising.shape)
    return np.stack([np.ones_like(rising), drift, bending, *gained, rising], axis=2)


_FREE = 3
"""Columns before a relaxation's."""


class Whitened:
    """Columns and values with the noise whitened away, and the prior of a relaxation as further observations, of 0."""

    def __init__(self, whitening: Array, relaxation: Relaxation | None = None) -> None:
        self._whitening = whitening
        self._priors = len(RELAXING_OVER) if relaxation else 0

    def values(self, values: Array) -> Array:
        """S × D → S + P × D, P being the number of priors."""
        whitened = self._whitening @ values
        return np.vstack([whitened, np.zeros((self._priors, values.shape[1]))])

    def column(self, design: Array, k: int) -> Array:
        """G × S + P: one of the columns of G designs."""
        prior = np.eye(design.shape[2])[k, _FREE : _FREE + self._priors]
        return np.column_stack([design[:, :, k] @ self._whitening.T, np.tile(prior, (len(design), 1))])


class RampSearch:
    """What does not depend on the values: the designs of G ramps, whitened and made orthonormal.

    The residuals of D curves on all ramps are then a product of matrices for each column.
    """

    def __init__(self, x: Array, ramps: Ramps, whitening: Array, relaxation: Relaxation | None = None) -> None:
        self.ramps = ramps
        self._whitened = Whitened(whitening, relaxation)
        design = designs(x, ramps, relaxation)
        self._base = np.linalg.qr(np.stack([self._whitened.column(design[:1], k)[0] for k in (0, 1)], axis=1))[0]
        self._rows: list[Array] = []
        self._known = np.ones(len(ramps), np.bool_)
        for k in range(2, design.shape[2]):
            row = self._whitened.column(design, k)
            before = np.linalg.norm(row, axis=1)
            row = row - (row @ self._base) @ self._base.T
            for other in self._rows:
                row -= (row * other).sum(1, keepdims=True) * other
            size = np.linalg.norm(row, axis=1)
            seen = size > 1e-6 * before
            if k == design.shape[2] - 1:
                self._known, self._size = seen, size
            # a column that adds nothing explains nothing; only the ramp itself must be seen
            self._rows.append(row * np.where(seen, 1 / np.where(seen, size, 1.0), 0.0)[:, None])

    def fit(self, values: Array) -> RampFit:
        """values: S × D. Ramps that the snapshots cannot tell from a drift have an infinite `rss`."""
        y = self._whitened.values(values)
        y = y - self._base @ (self._base.T @ y)
        rss = np.repeat((y**2).sum(0)[None, :], len(self.ramps), axis=0)
        *others, ramp = self._rows
        for row in others:
            rss -= (row @ y) ** 2
        along = ramp @ y
        rss -= along**2
        size = np.where(self._known, self._size, 1.0)
        rss[~self._known] = np.inf
        return RampFit(np.maximum(rss, 1e-12), along / size[:, None], 1 / size**2)
