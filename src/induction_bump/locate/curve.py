"""A quantity over the snapshots of a run, with what is known about its noise."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

MOST_COMPONENTS = 3
"""Principal components of the probe's covariance that are kept. What lies beyond them is read as independent: with as
many examples as snapshots more of them would be noise of the covariance itself."""


@dataclass(frozen=True)
class ProbeNoise:
    """Covariance of a probe's mean over S snapshots: components · componentsᵀ + what is left.

    What is left has variances `independent`, and correlations that fall off as those of an AR(1).
    """

    components: Array
    """S × k."""
    independent: Array
    """S: variances."""
    phi: float = 0.0
    """Correlation of what is left over the median distance between snapshots."""
    shares: tuple[float, ...] = (1.0,)
    """Shares of `independent` that may be right; the rest of it is then common to all snapshots, at each in proportion
    to its standard error. More than one where only standard errors are known: the examples are the same at every
    snapshot, so most of that error moves the curve as a whole, and how much is for the curve itself to say."""

    def covariance(self, tokens: Array, share: float = 1.0) -> Array:
        """S × S, with this share of `independent` independent."""
        spread = np.sqrt(self.independent)
        left = (1 - share) + share * correlations(tokens, self.phi)
        return self.components @ self.components.T + np.outer(spread, spread) * left

    @property
    def variance(self) -> Array:
        """S: the squared standard error of the mean at each snapshot."""
        return (self.components**2).sum(1) + self.independent


class TooFewSnapshotsError(ValueError):
    """A curve of too few snapshots to say anything of."""


class TooFewDocumentsError(ValueError):
    """Examples of too few documents for a standard error."""


@dataclass(frozen=True)
class Curve:
    """S values of one quantity of one run."""

    steps: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]
    """S, positive and rising."""
    values: Array
    probe: ProbeNoise

    @cached_property
    def x(self) -> Array:
        """ln(tokens)."""
        return np.log(self.tokens.astype(np.float64))

    def __len__(self) -> int:
        return len(self.values)

    def part(self, keep: npt.NDArray[np.bool_]) -> "Curve":
        """The same over fewer snapshots."""
        probe = replace(self.probe, components=self.probe.components[keep], independent=self.probe.independent[keep])
        return Curve(self.steps[keep], self.tokens[keep], self.values[keep], probe)


def correlations(tokens: Array, phi: float) -> Array:
    """S × S: exp(−|t_i − t_j| / τ), τ such that it is φ over the median distance between neighbours."""
    if phi == 0:
        return np.eye(len(tokens))
    distances = np.abs(tokens[:, None] - tokens[None, :]) / np.median(np.diff(tokens))
    return phi**distances


def noise_of_examples(values: Array, documents: npt.NDArray[np.integer]) -> ProbeNoise:
    """The noise of the mean over N examples at S snapshots, from the examples themselves.

    values: S × N; documents: N, by which the examples are clustered. The covariance of the mean is C/(C − 1) · E Eᵀ /
    N², E being S × C: the sums of a document's residuals. Of it the leading components are kept, and of the rest the
    diagonal and the mean correlation of neighbours: the raw matrix has rank C − 1, about S, and cannot be inverted to
    any use.

    Raises TooFewDocumentsError for examples of fewer than two documents.
    """
    labels, place = np.unique(documents, return_inverse=True)
    if len(labels) < 2:
        raise TooFewDocumentsError(f"a standard error needs at least two documents, not {len(labels)}")
    residuals = values - values.mean(1, keepdims=True)
    sums = np.zeros((len(labels), len(values)))
    np.add.at(sums, place, residuals.T)
    scaled = sums.T * np.sqrt(len(labels) / (len(labels) - 1)) / values.shape[1]
    left, sizes, _ = np.linalg.svd(scaled, full_matrices=False)
    components = left[:, :MOST_COMPONENTS] * sizes[:MOST_COMPONENTS]
    left = scaled - left[:, :MOST_COMPONENTS] @ (left[:, :MOST_COMPONENTS].T @ scaled)
    independent = (left**2).sum(1)
    size = max(float(independent[1:].sum() + independent[:-1].sum()) / 2, 1e-300)
    phi = float(np.clip((left[1:] * left[:-1]).sum() / size, 0.0, 0.95))
    return ProbeNoise(components, independent, phi)


def noise_of_stderrs(stderrs: Array) -> ProbeNoise:
    """The noise of a mean of which only standard errors are stored, S of them; those that are missing count as 0."""
    known = np.nan_to_num(np.asarray(stderrs, np.float64))
    return ProbeNoise(np.zeros((len(known), 0)), known**2, shares=(0.02, 0.2, 1.0))
