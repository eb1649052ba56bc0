"""What a change is held against: curves that only drift.

A constant, a line, a parabola or a cubic in ln(tokens), or a drift that bends once, sharply or gently, and goes on (one
that never comes to an end within the run is no change between two moments).
"""

from dataclasses import dataclass

import numpy as np

from induction_bump.locate.curve import Array, Curve
from induction_bump.locate.noise import Noise, fit_noise

DEGREE = 3
_BENDS = 24
_GENTLENESS = (0.0, 0.2, 0.6)
"""Over how many e-folds of tokens a bend goes on, about."""


@dataclass(frozen=True)
class Drift:
    """The drift that explains a curve best."""

    name: str
    """`constant`, `line`, `parabola`, `cubic` or `bend`."""
    fitted: Array
    """S."""
    noise: Noise
    """What is left, read as noise."""


def polynomial(x: Array, degree: int) -> Array:
    """S × (degree + 1): Legendre polynomials over the range of x."""
    centred = 2 * (x - x[0]) / (x[-1] - x[0]) - 1
    return np.polynomial.legendre.legvander(centred, degree)


def _bends(x: Array) -> Array:
    """K × S: the column that bends, for each place and gentleness."""
    inner = np.interp(np.linspace(1, len(x) - 2, _BENDS), np.arange(len(x)), x)
    sharp = [np.maximum(x - knot, 0.0) for knot in inner]
    gentle = [w * np.logaddexp(0.0, (x - knot) / w) for knot in inner for w in _GENTLENESS if w]
    return np.array(sharp + gentle)


class DriftSearch:
    """The least residuals that a drift leaves of a curve, for many curves at once."""

    def __init__(self, x: Array, whitening: Array) -> None:
        self._whitening = whitening
        self._cubic = np.linalg.qr(whitening @ polynomial(x, DEGREE))[0]
        self._line = np.linalg.qr(whitening @ polynomial(x, 1))[0]
        self.bends = _bends(x)
        rows = self.bends @ whitening.T
        rows -= (rows @ self._line) @ self._line.T
        self._rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def cubic(self, values: Array) -> Array:
        """D: residual sums of squares of S × D curves about their cubics."""
        return self._left(values, self._cubic)

    def bend(self, values: Array) -> Array:
        """K × D: about each bend."""
        y = self._whitening @ values
        return self._left(values, self._line)[None, :] - (self._rows @ y) ** 2

    def least(self, values: Array) -> Array:
        """D: about the best of them."""
        return np.maximum(np.minimum(self.cubic(values), self.bend(values).min(0)), 1e-12)

    def _left(self, values: Array, base: Array) -> Array:
        y = self._whitening @ values
        return (y**2).sum(0) - ((base.T @ y) ** 2).sum(0)


def fit_drift(curve: Curve) -> Drift:
    """The drift of least AIC, with the noise about it.

    Raises ValueError for a curve of too few snapshots.
    """
    x, y = curve.x, curve.values
    noise = fit_noise(curve, polynomial(x, DEGREE))
    search = DriftSearch(x, noise.whitening)
    bend = search.bend(y[:, None])[:, 0]
    designs = [(name, polynomial(x, d)) for d, name in enumerate(("constant", "line", "parabola", "cubic"))]
    designs.append(("bend", np.column_stack([polynomial(x, 1), search.bends[bend.argmin()]])))
    # the place and gentleness of a bend were chosen as well
    fits = [(_fit(design, y, noise.whitening), design.shape[1] + 2 * (name == "bend")) for name, design in designs]
    best = int(np.argmin([rss + 2 * p for (_, rss), p in fits]))
    name, design = designs[best]
    noise = fit_noise(curve, design)
    return Drift(name, _fit(design, y, noise.whitening)[0], noise)


def _fit(design: Array, values: Array, whitening: Array) -> tuple[Array, float]:
    coefficients = np.linalg.lstsq(whitening @ design, whitening @ values, rcond=None)[0]
    fitted = design @ coefficients
    return fitted, float(((whitening @ (values - fitted)) ** 2).sum())
