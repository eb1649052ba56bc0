"""What runs say about the time of their change: `Sighting` of one, `Sightings` of several on the axis of ln(tokens)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_STDERRS = 1.6448536269514722
"""To either side of an estimate that make an interval as wide as those of placed times (`placing.CONFIDENCE`)."""
FINEST = 1e-6
"""In ln(tokens): no time is known better, since tokens come one by one."""


@dataclass(frozen=True)
class Sighting:
    """What one run says about the time of its change, in tokens."""

    low: float = 0.0
    """After which it certainly was; 0 where nothing is known."""
    high: float = math.inf
    """By which it was; infinite where the run is not known to have it, 0 where it had it before training."""
    placed: tuple[float, float] | None = None
    """90 % interval of an estimate of the time, where there is one."""

    @property
    def found(self) -> bool:
        """Whether the run had it."""
        return math.isfinite(self.high)

    @property
    def undetermined(self) -> bool:
        """Whether the run leaves open if and when it had it."""
        return not self.found and not self.low

    @property
    def closed(self) -> bool:
        """Whether its time is known from both sides, rather than that it was before or after some moment."""
        return self.placed is not None or (self.found and self.low > 0)


@dataclass(frozen=True)
class Sightings:
    """What is known of the time of each run, in ln(tokens)."""

    low: Array
    """After which it certainly was; −∞ where nothing is known."""
    high: Array
    """By which it was, or ∞."""
    estimate: Array
    """Where it was placed; NaN where it was not."""
    stderr: Array
    """Of the estimate; ∞ where there is none."""

    @classmethod
    def of_tokens(
        cls, low: npt.ArrayLike, high: npt.ArrayLike, placed: tuple[npt.ArrayLike, npt.ArrayLike] | None = None
    ) -> "Sightings":
        """From 0 ≤ low ≤ high in tokens, and 90 % intervals of placed times, both ends NaN for the other runs.

        high = 0 says that it was there before the first token. 0 has no logarithm; what is used is that the time lies
        before everything that is told of the other runs.

        Of a placed time the estimate is the middle of the interval in ln(tokens), with the standard error that makes
        the interval a normal one. Where an interval reaches further to one side, so do the times that are likely: of
        two half normal curves that reach as far to either side, the mean lies at the middle to 2 % of the difference of
        the halves, and their standard deviation is this one nearly.
        """
        lows, highs = np.asarray(low, np.float64), np.asarray(high, np.float64)
        nowhere = np.full(lows.shape, np.nan)
        first, last = (np.asarray(end, np.float64) for end in placed or (nowhere, nowhere))
        ends = np.concatenate([lows, highs, first])
        before = ends[np.isfinite(ends) & (ends > 0)].min(initial=math.inf)
        with np.errstate(divide="ignore"):
            lows, highs = np.log(lows), np.log(np.where(highs > 0, highs, before))
        stderr = np.maximum(np.log(last / first) / (2 * _STDERRS), FINEST)
        return cls(lows, highs, np.log(first * last) / 2, np.where(np.isnan(stderr), math.inf, stderr))

    @classmethod
    def of_runs(cls, runs: Iterable[Sighting]) -> "Sightings":
        """One sighting a run."""
        told = list(runs)
        placed = np.array([s.placed or (math.nan, math.nan) for s in told])
        return cls.of_tokens([s.low for s in told], [s.high for s in told], (placed[:, 0], placed[:, 1]))

    @property
    def placed(self) -> npt.NDArray[np.bool_]:
        """Which runs have an estimate."""
        return np.isfinite(self.stderr)

    @property
    def closed(self) -> npt.NDArray[np.bool_]:
        """Which runs tell of a spread: those that are placed, or bounded on both sides."""
        return self.placed | np.isfinite(self.high - self.low)

    @property
    def middle(self) -> Array:
        """The estimate of each run that is placed, the middle of each other bracket."""
        with np.errstate(invalid="ignore"):  # −∞ + ∞ of a run of which nothing is known
            return np.where(self.placed, self.estimate, (self.low + self.high) / 2)

    @property
    def ends(self) -> Array:
        """All finite bounds, each once, ascending."""
        ends = np.concatenate([self.low, self.high])
        return np.unique(ends[np.isfinite(ends)])
