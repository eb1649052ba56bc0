"""Means with standard errors, where examples may share a document."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]


class NotFiniteError(ValueError):
    """A model's losses or patterns are no numbers any more."""


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error, both scalars or both arrays of one shape."""

    value: Array
    stderr: Array

    def __float__(self) -> float:
        return float(self.value)


def clustered_mean(
    sums: Array, clusters: npt.NDArray[np.integer] | None = None, counts: Array | None = None
) -> Estimate:
    """Mean of what lies in N examples, with the standard error of a ratio whose examples are clustered.

    sums: N × …, the sum of an example's values; counts: N × … how many they are (1 where not given);
    clusters: N, the document of each example (each its own where not given). With residuals e_c = Σ_{i∈c} (sum_i −
    mean · count_i), the squared error is C/(C − 1) · Σ_c e_c² / (Σ count)² (Taylor linearisation of a ratio).

    Raises ValueError for fewer than two clusters or no values at all.
    """
    sums = np.asarray(sums, np.float64)
    counts = np.ones_like(sums) if counts is None else np.asarray(counts, np.float64)
    total = counts.sum(0)
    if np.any(total <= 0):
        raise ValueError("the mean of no values")
    mean = sums.sum(0) / total
    residuals = sums - mean * counts
    if clusters is not None:
        labels, place = np.unique(clusters, return_inverse=True)
        gathered = np.zeros((len(labels), *residuals.shape[1:]))
        np.add.at(gathered, place, residuals)
        residuals = gathered
    n = len(residuals)
    if n < 2:
        raise ValueError(f"a standard error needs at least two independent examples, not {n}")
    return Estimate(mean, np.sqrt(n / (n - 1) * (residuals**2).sum(0)) / total)
