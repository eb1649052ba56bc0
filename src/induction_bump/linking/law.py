"""How the time of the bump grows with what a sweep varies: a power law fitted to times that snapshots only bracket.

ln t = a + Σ_k b_k ln x_k + σ ε, ε standard normal: the exponents b_k are slopes of ln(tokens). A run whose bump lies in
(low, high] adds ln[Φ((ln high − μ)/σ) − Φ((ln low − μ)/σ)] to the likelihood, one that ended without it ln[1 − Φ].
Maximised by statsmodels; lifelines' accelerated-failure-time models are the same in theory, but from their own starting
point they do not converge where σ is a few per cent of ln t.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

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
    """Spread of ln t about the law, over seeds and whatever the law leaves out."""
    n: int
    censored: int
    covariance: Array
    """Of (a, b_1, …), scaled as the intervals are."""
    freedom: int

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
        return _slope(value, float(np.sqrt(weights @ self.covariance @ weights)), self.freedom)


def fit_power_law(times: pd.DataFrame, x: Mapping[str, Array]) -> PowerLaw:
    """Fit the law to runs.

    times: one row a run with `low` < `high` in tokens, ∞ for a censored run, and `estimate`; x: name → one positive
    value a run, none for a log-normal alone. Intervals are 95 %, from the information matrix with its variances scaled
    by n/(n − k), since maximum likelihood underestimates σ in small samples, and Student's t with n − k degrees of
    freedom.

    Raises NoFitError for fewer runs with a bump than unknowns, or for x of which one does not vary or follows from
    others.
    """
    from statsmodels.base.model import GenericLikelihoodModel

    names = list(x)
    logs = np.array([np.log(np.asarray(x[name], np.float64)) for name in names]).reshape(len(names), len(times)).T
    centre = logs.mean(0)
    design = np.column_stack([np.ones(len(logs)), logs - centre])
    unknowns = design.shape[1] + 1
    with np.errstate(divide="ignore"):
        low, high = np.log(times["low"].to_numpy(np.float64)), np.log(times["high"].to_numpy(np.float64))
    seen = np.isfinite(high)
    if seen.sum() < unknowns:
        raise NoFitError(f"{int(seen.sum())} runs with a bump do not determine {unknowns} unknowns")
    if np.linalg.matrix_rank(design) < design.shape[1] or np.linalg.matrix_rank(design[seen]) < design.shape[1]:
        raise NoFitError(f"{', '.join(names)}: one does not vary, or follows from the others")
    middle = np.where(seen, np.log(times["estimate"].to_numpy(np.float64)), low)
    start = np.linalg.lstsq(design[seen], middle[seen], rcond=None)[0]
    spread = max(float((middle[seen] - design[seen] @ start).std()), 1e-3)

    class IntervalCensored(GenericLikelihoodModel):
        def loglikeobs(self, params: Array) -> Array:
            mean, sigma = design @ params[:-1], np.exp(params[-1])
            return _ln_between((low - mean) / sigma, (high - mean) / sigma)

    model = IntervalCensored(middle, design, extra_params_names=["ln_sigma"])
    fit = model.fit(np.append(start, np.log(spread)), method="bfgs", maxiter=500, disp=False, skip_hessian=True)
    information = -np.asarray(model.hessian(fit.params))
    if not np.isfinite(information).all() or np.linalg.eigvalsh(information).min() <= 0:
        raise NoFitError("the likelihood has no maximum that is determined by these runs")
    n, k = len(times), design.shape[1]
    covariance = np.linalg.inv(information)[:k, :k] * n / (n - k)
    # back from centred logarithms: a = a' − Σ b_k · mean(ln x_k)
    back = np.eye(k)
    back[0, 1:] = -centre
    values, covariance = back @ fit.params[:k], back @ covariance @ back.T
    slopes = [_slope(float(v), float(np.sqrt(s)), n - k) for v, s in zip(values, np.diag(covariance), strict=True)]
    sigma = float(np.exp(fit.params[-1]) * np.sqrt(n / (n - k)))
    exponents = dict(zip(names, slopes[1:], strict=True))
    return PowerLaw(slopes[0], exponents, sigma, n, int((~seen).sum()), covariance, n - k)


def _slope(value: float, stderr: float, freedom: int) -> Slope:
    from scipy.stats import t

    half = float(t.ppf(0.975, freedom)) * stderr
    return Slope(value, value - half, value + half, stderr)


def _ln_between(low: Array, high: Array) -> Array:
    """ln[Φ(high) − Φ(low)], by the tail in which both lie, where it does not cancel."""
    from scipy.special import log_ndtr

    swap = low > 0
    a, b = np.where(swap, -high, low), np.where(swap, -low, high)
    upper = log_ndtr(b)
    with np.errstate(divide="ignore"):
        return upper + np.log1p(-np.exp(np.minimum(log_ndtr(a) - upper, -1e-300)))
