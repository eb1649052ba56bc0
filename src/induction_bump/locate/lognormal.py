"""Log-normal times of which only brackets are known: their likelihood, its maximum, and profiles.

ln t = x · β + σ ε, ε standard normal. A run whose time lies in (low, high] tokens adds ln[Φ(b) − Φ(a)] with
a = (ln low − x · β)/σ and b = (ln high − x · β)/σ; low = 0 and high = ∞ leave a side open. In θ = (β/σ, 1/σ) each a and
b is linear and the likelihood concave, so that Newton steps find its maximum from anywhere. Holding σ fixed, or a mean
alone, is linear in θ too, and gives the profiles.

Where snapshots are too far apart to tell σ, the likelihood has no maximum but a limit as σ goes to 0; σ is then known
from above only.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CONFIDENCE = 0.90
_FAR = math.log(1000)
"""A bound of the mean that lies further than this outside what is known of any run is none."""
_LIMIT = 1e-3
"""A likelihood as close to its maximum as this does not differ from it."""
_MOST_STEPS = 200


@dataclass(frozen=True)
class Brackets:
    """What is known of the time of each run, in ln(tokens); −∞ and ∞ where a side is open."""

    low: Array
    high: Array

    @classmethod
    def of_tokens(cls, low: npt.ArrayLike, high: npt.ArrayLike) -> "Brackets":
        """From 0 ≤ low ≤ high in tokens.

        high = 0 says that it was there before the first token. 0 has no logarithm; what is used is that the time lies
        before everything that is told of the other runs.
        """
        lows, highs = np.asarray(low, np.float64), np.asarray(high, np.float64)
        ends = np.concatenate([lows, highs])
        first = ends[np.isfinite(ends) & (ends > 0)].min(initial=math.inf)
        with np.errstate(divide="ignore"):
            return cls(np.log(lows), np.log(np.where(highs > 0, highs, first)))

    @property
    def closed(self) -> npt.NDArray[np.bool_]:
        """Whether a run's time is bounded on both sides: the runs that tell of a spread."""
        return np.isfinite(self.low) & np.isfinite(self.high)

    @property
    def ends(self) -> Array:
        """All finite ends, each once, ascending."""
        ends = np.concatenate([self.low, self.high])
        return np.unique(ends[np.isfinite(ends)])


class LogNormal:
    """Maximum likelihood of log-normal times on a design, and what its profiles say.

    σ is corrected by √(m/(m − k)), since maximum likelihood underestimates it: k counts the columns of the design, m
    the runs that are bounded on both sides, because the others say little of σ. Intervals are 90 %, by profile
    likelihood; that of the mean has the cut-off m · ln(1 + t²/(m − 1)), t being Student's with m − 1 degrees of
    freedom: were the times known exactly, it would be the t interval.

    All of it raises LinAlgError where a search comes to no result.
    """

    def __init__(self, brackets: Brackets, design: Array | None = None) -> None:
        """design: (n, k), with ones in the first column; by default that alone. Needs more than k closed brackets."""
        closed = brackets.closed
        self._ends = brackets.ends
        self.design = np.ones((len(closed), 1)) if design is None else design
        self.freedom = int(closed.sum()) - self.design.shape[1]
        assert self.freedom > 0, self.freedom
        self.correction = math.sqrt(closed.sum() / self.freedom)
        middles = (brackets.low[closed] + brackets.high[closed]) / 2
        self._centre = float(middles.mean())
        self._low, self._high = brackets.low - self._centre, brackets.high - self._centre
        start = np.linalg.lstsq(self.design[closed], middles - self._centre, rcond=None)[0]
        off = middles - self._centre - self.design[closed] @ start
        tau = 1 / float(off.std() + (brackets.high - brackets.low)[closed].mean())
        self._theta = self._maximise(np.append(start * tau, tau), np.eye(len(start) + 1))
        self.maximum = self._value(self._theta)

    @property
    def coefficients(self) -> Array:
        """β of ln(tokens); where snapshots cannot tell it, one of those that are equally likely."""
        beta = self._theta[:-1] / self._theta[-1]
        beta[0] += self._centre
        return beta

    @cached_property
    def sigma(self) -> float | None:
        """σ, corrected; None where the likelihood only bounds it from above."""
        best = 1 / float(self._theta[-1])
        # a likelihood that has fallen goes on falling; far from its maximum numbers would overflow
        smaller = (max(best / 20, self._narrowest), self._narrowest)
        told = any(self.maximum - self._at_sigma(sigma) >= _LIMIT for sigma in smaller)
        return self.correction * best if told else None

    @property
    def mean(self) -> float:
        """μ of a design of ones; where snapshots cannot tell it, the middle of the values that are equally likely."""
        if self.sigma is not None:
            return float(self.coefficients[0])
        low, high = self._mean_where(1e-6)
        return (low + high) / 2

    @property
    def mean_interval(self) -> tuple[float, float]:
        """Of μ of a design of ones; ∞ on a side that is left open."""
        from scipy.stats import t

        m, quantile = self.freedom + 1, float(t.ppf((1 + CONFIDENCE) / 2, self.freedom))
        return self._mean_where(m / 2 * math.log1p(quantile**2 / self.freedom))

    @property
    def sigma_interval(self) -> tuple[float, float]:
        """Of σ, corrected; 0 where it is not known from below.

        The cut-off has Bartlett's factor: for exactly known times the mean of the likelihood ratio is right, and with
        it its distribution nearly, down to two degrees of freedom.
        """
        from scipy.special import digamma
        from scipy.stats import chi2

        bartlett = self.freedom * (math.log(self.freedom / 2) - float(digamma(self.freedom / 2)))
        fall = self.correction**2 * bartlett * float(chi2.ppf(CONFIDENCE, 1)) / 2
        best = min(max(-math.log(self._theta[-1]), math.log(self._narrowest)), _FAR)

        def above(ln_sigma: float) -> float:
            return self._at_sigma(math.exp(ln_sigma)) - self.maximum + fall

        low, high = _edge(above, best, best - math.log(self._narrowest), -1), _edge(above, best, 2 * _FAR, 1)
        return self.correction * math.exp(low), self.correction * math.exp(high)

    @property
    def information(self) -> Array:
        """Of (β, ln σ) at the maximum."""
        hessian, tau = self._slopes(self._theta)[1], float(self._theta[-1])
        k = len(self._theta) - 1
        jacobian = np.diag(np.full(k + 1, tau))
        jacobian[:, -1] = -self._theta
        return -jacobian.T @ hessian @ jacobian

    @property
    def _narrowest(self) -> float:
        """σ below which the likelihood is its limit."""
        return float(np.diff(self._ends).min()) / 20

    def _at_sigma(self, sigma: float) -> float:
        """The largest ln-likelihood with that σ (uncorrected)."""
        start = np.append(self._theta[:-1] / self._theta[-1], 1.0) / sigma
        return self._value(self._maximise(start, np.eye(len(start))[:, :-1]))

    def _at_mean(self, mean: float) -> float:
        """The largest ln-likelihood with that μ."""
        direction = np.array([[mean - self._centre], [1.0]])
        tau = 1 / (1 / float(self._theta[-1]) + abs(mean - self.coefficients[0]))
        return self._value(self._maximise(direction[:, 0] * tau, direction))

    def _mean_where(self, fall: float) -> tuple[float, float]:
        best = float(self.coefficients[0])

        def above(mean: float) -> float:
            return self._at_mean(mean) - self.maximum + fall

        return (
            _edge(above, best, best - self._ends[0] + _FAR, -1),
            _edge(above, best, self._ends[-1] - best + _FAR, 1),
        )

    def _maximise(self, theta: Array, basis: Array) -> Array:
        """θ of the largest likelihood in θ + span(basis)."""
        value = self._value(theta)
        for _ in range(_MOST_STEPS):
            gradient, hessian = self._slopes(theta)
            slope, curvature = basis.T @ gradient, -basis.T @ hessian @ basis
            # where the likelihood is flat there is no curvature to divide by
            curvature += 1e-12 * (1e-12 + np.trace(curvature)) * np.eye(len(slope))
            step = np.linalg.solve(curvature, slope)
            if not slope @ step > 1e-10:
                break
            step, size = basis @ step, 1.0
            while size > 1e-10 and not self._value(theta + size * step) > value:
                size /= 2
            if size <= 1e-10:
                break
            theta = theta + size * step
            value = self._value(theta)
        return theta

    def _standardised(self, theta: Array) -> tuple[Array, Array]:
        mean = self.design @ theta[:-1]
        return self._low * theta[-1] - mean, self._high * theta[-1] - mean

    def _value(self, theta: Array) -> float:
        return float(ln_between(*self._standardised(theta)).sum()) if theta[-1] > 0 else -math.inf

    def _slopes(self, theta: Array) -> tuple[Array, Array]:
        """Gradient (k + 1) and Hessian (k + 1, k + 1) of the ln-likelihood in θ."""
        a, b = self._standardised(theta)
        total = ln_between(a, b)
        gradient, hessian = np.zeros((len(a), len(theta))), np.zeros((len(theta), len(theta)))
        for sign, z, end in ((1, b, self._high), (-1, a, self._low)):
            density = np.exp(-(z**2) / 2 - math.log(2 * math.pi) / 2 - total)
            x = np.column_stack([-self.design, np.where(np.isfinite(end), end, 0)])
            gradient += sign * density[:, None] * x
            hessian -= sign * (x * (np.where(np.isfinite(z), z, 0) * density)[:, None]).T @ x
        return gradient.sum(0), hessian - gradient.T @ gradient


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

    near, far = 0.0, min(1e-3, reach)
    while above(inside + sign * far) > 0:
        if far >= reach:
            return sign * math.inf
        near, far = far, min(2 * far, reach)
    try:
        found = optimize.root_scalar(lambda away: above(inside + sign * away), bracket=(near, far), xtol=1e-7)
    except (ValueError, RuntimeError) as error:
        raise np.linalg.LinAlgError("the search for the end of an interval does not end") from error
    return inside + sign * float(found.root)
