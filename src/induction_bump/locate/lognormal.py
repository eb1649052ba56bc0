"""Log-normal times known by brackets, or by estimates with an error: their likelihood, its maximum, and profiles.

ln t = x · β + σ ε, ε standard normal. A run whose time lies in (low, high] tokens adds ln[Φ(b) − Φ(a)] with
a = (ln low − x · β)/σ and b = (ln high − x · β)/σ; low = 0 and high = ∞ leave a side open. One that was placed at y in
ln tokens, with standard error s, adds the ln of the density of N(x · β, σ² + s²) at y. Its time is certainly within its
training all the same: a and b are then those of the ends of the training about the mean of x · β and y, weighted with
s² and σ², over σs/√(σ² + s²). Without that, runs that ended too early and runs badly placed would together speak for a
spread of 0.

With σ held this is concave in β, so that Newton steps find the maximum from anywhere. That maximum as a function of σ
speaks for too small a σ, the more so the fewer runs there are to each β: added is −½ ln det(Xᵀ V⁻¹ X), V being σ² + s².
For known times and for errors that is restricted maximum likelihood; for brackets, where V is σ² but no less than the
square of half a bracket, an approximation to it (Cox & Reid 1987). Runs that are open on a side are left out of it.

Where snapshots are too far apart to tell σ, or errors too large, the likelihood has no maximum but a limit as σ goes to
0; σ is then known from above only.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from induction_bump.locate.placing import CONFIDENCE
from induction_bump.locate.sighting import FINEST, Sightings

Array = npt.NDArray[np.float64]

_FAR = math.log(1000)
"""A bound of the mean that lies further than this outside what is known of any run is none."""
_LIMIT = 1e-3
"""A likelihood as close to its maximum as this does not differ from it."""
_MOST_STEPS, _LEAST_STEP = 200, 1e-10
_GRID = 33
"""Points of a grid in ln σ."""


class LogNormal:
    """Restricted maximum likelihood of log-normal times on a design, and what its profiles say.

    Intervals are 90 %, by profile likelihood, and with m closed runs and a design of k columns have m − k degrees of
    freedom. That of the mean has the cut-off (m − k)/2 · ln(1 + t²/(m − k)), t being Student's: were the times known
    exactly, it would be the t interval.

    All of it raises LinAlgError where a search comes to no result.
    """

    def __init__(self, sightings: Sightings, design: Array | None = None) -> None:
        """design: (n, k), with ones in the first column; by default that alone. Needs more than k closed runs."""
        closed, placed = sightings.closed, sightings.placed
        self.design = np.ones((len(closed), 1)) if design is None else design
        self.freedom = int(closed.sum()) - self.design.shape[1]
        assert self.freedom > 0, self.freedom
        self._low, self._high = sightings.low, sightings.high
        self._placed, self._precision = placed, sightings.stderr**-2.0
        self._estimate = np.where(placed, sightings.estimate, 0)
        self._closed, middles = self.design[closed], sightings.middle[closed]
        self._errors = np.where(placed, sightings.stderr**2, 0)[closed]
        self._least = np.where(placed, 0, (sightings.high - sightings.low) / 2)[closed] ** 2
        self._start = np.linalg.lstsq(self._closed, middles, rcond=None)[0].astype(np.float64)
        self._known = np.concatenate([sightings.ends, middles])
        gaps = np.diff(sightings.ends)
        self._narrowest = float(min(gaps[gaps > FINEST].min(initial=1), sightings.stderr.min())) / 20
        """σ below which the likelihood is its limit."""
        self._widest = 100 * float(max(np.ptp(self._known), self._errors.max() ** 0.5))
        ln_sigma, self.maximum = self._peak(lambda sigma: self._fit(sigma)[1])
        self._best = math.exp(ln_sigma)
        limit = self._at(self._narrowest)[1]
        self.sigma = self._best if self.maximum - limit >= _LIMIT else 0.0
        """σ; 0 where the likelihood only bounds it from above."""

    @property
    def coefficients(self) -> Array:
        """β of ln(tokens); where snapshots cannot tell it, one of those that are equally likely."""
        return self._at(self._best)[0]

    @property
    def covariance(self) -> Array:
        """k × k: of β, for what it is where σ is known and for what is not known of σ."""
        covariance = np.linalg.inv(self._slopes(self.coefficients[None], np.array([self._best]))[1][0])
        if self.sigma:
            step = 0.05
            (before, after), (low, high) = self._fit(self.sigma * np.exp([-step, step]))
            curvature = (2 * self.maximum - low - high) / step**2
            moved = (after - before) / (2 * step)
            covariance = covariance + np.outer(moved, moved) / curvature
        return covariance

    @property
    def mean(self) -> float:
        """μ of a design of ones; where snapshots cannot tell it, the middle of the values that are equally likely."""
        if self.sigma:
            return float(self.coefficients[0])
        low, high = self._mean_where(_LIMIT)
        return (low + high) / 2

    @property
    def mean_interval(self) -> tuple[float, float]:
        """Of μ of a design of ones; ∞ on a side that is left open."""
        from scipy.stats import t

        quantile = float(t.ppf((1 + CONFIDENCE) / 2, self.freedom))
        return self._mean_where(self.freedom / 2 * math.log1p(quantile**2 / self.freedom))

    @property
    def sigma_interval(self) -> tuple[float, float]:
        """Of σ; 0 where it is not known from below.

        The cut-off has Bartlett's factor: for exactly known times the mean of the likelihood ratio is right, and with
        it its distribution nearly, down to two degrees of freedom.
        """
        from scipy.special import digamma
        from scipy.stats import chi2

        bartlett = self.freedom * (math.log(self.freedom / 2) - float(digamma(self.freedom / 2)))
        fall = bartlett * float(chi2.ppf(CONFIDENCE, 1)) / 2
        best = math.log(self._best)

        def above(ln_sigma: float) -> float:
            return self._at(math.exp(ln_sigma))[1] - self.maximum + fall

        low, high = _edge(above, best, best - math.log(self._narrowest), -1), _edge(above, best, 2 * _FAR, 1)
        return math.exp(low), math.exp(high)

    def _mean_where(self, fall: float) -> tuple[float, float]:
        """The means whose largest likelihood is less than `fall` below the maximum."""
        best = float(self.coefficients[0])

        def above(mean: float) -> float:
            def value(sigma: Array) -> Array:
                return self._value(np.full((len(sigma), 1), mean), sigma) + self._restriction(sigma)

            return self._peak(value)[1] - self.maximum + fall

        return (
            _edge(above, best, best - self._known.min() + _FAR, -1),
            _edge(above, best, self._known.max() - best + _FAR, 1),
        )

    def _peak(self, value: Callable[[Array], Array]) -> tuple[float, float]:
        """ln σ at which a function of σ (G) is largest, and what it is there: a coarse grid, a fine one, a parabola."""
        coarse = np.linspace(math.log(self._narrowest), math.log(self._widest), _GRID)
        near = int(value(np.exp(coarse)).argmax())
        fine = np.linspace(coarse[max(near - 1, 0)], coarse[min(near + 1, _GRID - 1)], _GRID)
        values = value(np.exp(fine))
        best = int(values.argmax())
        if not 0 < best < _GRID - 1:
            return float(fine[best]), float(values[best])
        before, here, after = values[best - 1 : best + 2]
        falling = 2 * here - before - after
        off = (after - before) / (2 * falling) if falling > 0 else 0.0
        return float(fine[best] + off * (fine[1] - fine[0])), float(here + off * (after - before) / 4)

    def _at(self, sigma: float) -> tuple[Array, float]:
        """β (k) of the largest likelihood with that σ, and what it is."""
        beta, value = self._fit(np.array([sigma]))
        return beta[0], float(value[0])

    def _restriction(self, sigma: Array) -> Array:
        """G: what is added for the β that are fitted."""
        variance = np.maximum(sigma[:, None] ** 2 + self._errors, self._least)
        weighted = np.einsum("gm,mi,mj->gij", 1 / variance, self._closed, self._closed)
        return -np.linalg.slogdet(weighted)[1] / 2

    def _fit(self, sigma: Array) -> tuple[Array, Array]:
        """For each σ (G) the β (G × k) of the largest likelihood, and what it is with the restriction (G)."""
        beta = np.tile(self._start, (len(sigma), 1))
        value, going = self._value(beta, sigma), np.ones(len(sigma), np.bool_)
        for _ in range(_MOST_STEPS):
            slope, curvature = self._slopes(beta, sigma)
            # where the likelihood is flat there is no curvature to divide by
            flat = 1e-12 * (1e-12 + np.trace(curvature, axis1=1, axis2=2))
            step = np.linalg.solve(curvature + flat[:, None, None] * np.eye(len(slope[0])), slope[:, :, None])[:, :, 0]
            going &= (slope * step).sum(1) > 1e-10
            size, moved = going.astype(np.float64), value
            while going.any():
                moved = self._value(beta + size[:, None] * step, sigma)
                worse = going & ~(moved > value)
                if not worse.any():
                    break
                size[worse] /= 2
                going &= size > _LEAST_STEP
                size[~going] = 0
            if not going.any():
                break
            beta = beta + size[:, None] * step
            value = np.where(going, moved, value)
        return beta, value + self._restriction(sigma)

    def _standardised(self, beta: Array, sigma: Array) -> tuple[Array, Array, Array, Array, Array]:
        """G × n: both ends about where the time of each run is likely; how far an estimate lies off the mean, and the
        precision of that; and by how much what is likely moves with the mean, over its spread.
        """
        mean, variance = beta @ self.design.T, sigma[:, None] ** 2
        share = 1 / (1 + variance * self._precision)
        likely, spread = share * mean + (1 - share) * self._estimate, np.sqrt(variance * share)
        a, b = (self._low - likely) / spread, (self._high - likely) / spread
        return a, b, np.where(self._placed, self._estimate - mean, 0), self._precision * share, share / spread

    def _value(self, beta: Array, sigma: Array) -> Array:
        """G: ln-likelihood."""
        a, b, off, precision, _ = self._standardised(beta, sigma)
        density = np.log(np.where(self._placed, precision / (2 * math.pi), 1)) / 2 - precision * off**2 / 2
        return (ln_between(a, b) + density).sum(1)

    def _slopes(self, beta: Array, sigma: Array) -> tuple[Array, Array]:
        """Gradient (G × k) and minus the Hessian (G × k × k) of the ln-likelihood in β."""
        a, b, off, precision, moving = self._standardised(beta, sigma)
        total = ln_between(a, b)
        at_low, at_high = (np.exp(-(z**2) / 2 - math.log(2 * math.pi) / 2 - total) for z in (a, b))
        slope = at_low - at_high
        falling = slope**2 - np.where(np.isfinite(a), a, 0) * at_low + np.where(np.isfinite(b), b, 0) * at_high
        curvature = np.einsum("gn,ni,nj->gij", precision + moving**2 * falling, self.design, self.design)
        return (precision * off + moving * slope) @ self.design, curvature


def ln_between(low: Array, high: Array) -> Array:
    """ln[Φ(high) − Φ(low)], by the tail in which both lie, where it does not cancel; −∞ where high ≤ low."""
    from scipy.special import log_ndtr

    swap = low > 0
    a, b = np.where(swap, -high, low), np.where(swap, -low, high)
    upper = log_ndtr(b)
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.where(np.isneginf(a), -math.inf, log_ndtr(a) - upper)
        return np.where(high > low, upper + np.log1p(-np.exp(np.minimum(below, -1e-300))), -math.inf)


def _edge(above: Callable[[float], float], inside: float, reach: float, sign: int) -> float:
    """Where a function that is positive at `inside` falls to 0 above (1) or below (−1); infinite beyond the reach."""
    from scipy import optimize

    near, far = 0.0, min(0.05, reach)
    while above(inside + sign * far) > 0:
        if far >= reach:
            return sign * math.inf
        near, far = far, min(2 * far, reach)
    try:
        found = optimize.root_scalar(lambda away: above(inside + sign * away), bracket=(near, far), xtol=1e-4 * far)
    except (ValueError, RuntimeError) as error:
        raise np.linalg.LinAlgError("the search for the end of an interval does not end") from error
    return inside + sign * float(found.root)
