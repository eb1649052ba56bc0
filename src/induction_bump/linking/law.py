"""How the time of the bump grows with what a sweep varies: a power law fitted to brackets or to times with an error.

ln t = a + Σ_k b_k ln x_k + σ ε, ε standard normal: the exponents b_k are slopes of ln(tokens). It is the log-normal of
`locate/lognormal.py`, of which the time over the seeds of a cell is the case without x.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from induction_bump.linking.times import sightings
from induction_bump.locate.lognormal import LogNormal

Array = npt.NDArray[np.float64]


class NoFitError(ValueError):
    """The runs do not determine the law; the message says why."""


@dataclass(frozen=True)
class Slope:
    """An exponent or the constant a, with its interval."""

    value: float
    low: float
    high: float
    stderr: float


@dataclass(frozen=True)
class PowerLaw:
    """A fitted law."""

    intercept: Slope
    """a: ln(tokens) where every ln x_k is 0."""
    exponents: Mapping[str, Slope]
    """By the name of x_k."""
    sigma: float
    """Spread of ln t about the law, over seeds and whatever the law leaves out; 0 where the errors of placed times
    explain all of it."""
    n: int
    censored: int
    """Runs that ended without the bump."""
    before: int
    """Runs whose time is bounded from above alone: they had it by the first snapshot, or the first after step 0."""
    covariance: Array
    """Of (a, b_1, …)."""
    fit: LogNormal
    """On logarithms of x less their means."""

    @property
    def sigma_interval(self) -> tuple[float, float]:
        """90 % interval of `sigma` by profile likelihood. Raises NoFitError where the profile comes to no result."""
        with _no_result():
            return self.fit.sigma_interval

    def predict(self, x: Mapping[str, float]) -> float:
        """Tokens to the bump at one setting."""
        powers = sum(slope.value * np.log(x[name]) for name, slope in self.exponents.items())
        return float(np.exp(self.intercept.value + powers))

    def difference(self, one: str, other: str) -> Slope:
        """How much larger one exponent is than another."""
        names = list(self.exponents)
        weights = np.zeros(len(names) + 1)
        weights[1 + names.index(one)], weights[1 + names.index(other)] = 1, -1
        value = self.exponents[one].value - self.exponents[other].value
        return _slope(value, float(np.sqrt(weights @ self.covariance @ weights)), self.fit.freedom)


def fit_power_law(times: pd.DataFrame, x: Mapping[str, Array]) -> PowerLaw:
    """Fit the law to runs.

    times: one row a run, as `times.event_times` gives them, without those whose state is `undefined`. low = 0: it had
    the bump at its first snapshot, at `high`; a `high` of 0 (before training) is read as before all that is told of the
    other runs. high = ∞: it ended without.
    x: name → one positive value a run; none for a log-normal alone.

    Intervals are 95 %, from the curvature of the restricted likelihood and Student's t with m − k degrees of freedom; m
    counts the runs that are bounded on both sides, k the exponents and a.

    Raises NoFitError for a value that has no logarithm, fewer bounded runs than unknowns, x of which one does not vary
    or follows from others, brackets too wide to tell σ, or a fit that comes to no result.
    """
    names = list(x)
    logs = np.array([_logarithm(name, x[name]) for name in names]).reshape(len(names), len(times)).T
    centre = logs.mean(0)
    design = np.column_stack([np.ones(len(logs)), logs - centre])
    k = design.shape[1]
    told = sightings(times)
    closed = told.closed
    if closed.sum() < k + 1:
        raise NoFitError(f"{int(closed.sum())} runs with a bump within training do not determine {k + 1} unknowns")
    if np.linalg.matrix_rank(design) < k or np.linalg.matrix_rank(design[closed]) < k:
        raise NoFitError(f"{', '.join(names)}: one does not vary, or follows from the others")
    with _no_result():
        fit = LogNormal(told, design)
        if not fit.sigma and not told.placed[closed].all():
            raise NoFitError("the snapshots are too far apart to tell the spread about the law")
        covariance = fit.covariance
    # back from centred logarithms: a = a' − Σ b_k · mean(ln x_k)
    back = np.eye(k)
    back[0, 1:] = -centre
    values, covariance = back @ fit.coefficients, back @ covariance @ back.T
    stderrs = np.sqrt(np.diag(covariance))
    slopes = [_slope(float(v), float(s), fit.freedom) for v, s in zip(values, stderrs, strict=True)]
    exponents = dict(zip(names, slopes[1:], strict=True))
    late, early = np.isinf(told.high), np.isinf(told.low) & ~told.placed
    censored, before = int(late.sum()), int((early & ~late).sum())
    return PowerLaw(slopes[0], exponents, fit.sigma, len(times), censored, before, covariance, fit)


@contextmanager
def _no_result() -> Generator[None, None, None]:
    """Let a fit that comes to no result be a NoFitError."""
    try:
        yield
    except np.linalg.LinAlgError as error:
        raise NoFitError(f"the fit came to no result ({error})") from error


def _logarithm(name: str, values: Array) -> Array:
    values = np.asarray(values, np.float64)
    if not (values > 0).all():
        raise NoFitError(f"{name}: a power law needs values above 0, not {values[~(values > 0)][0]:g}")
    return np.log(values)


def _slope(value: float, stderr: float, freedom: int) -> Slope:
    from scipy.stats import t

    half = float(t.ppf(0.975, freedom)) * stderr
    return Slope(value, value - half, value + half, stderr)
