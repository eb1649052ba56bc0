"""When a curve changes and by how much, with intervals: profiles of the residuals, cut off where chance would.

The noise is estimated anew about the ramp, ramps are searched on grids that close in on the best, finer than the
snapshots, and every quantity ψ gets its profile D(ψ): the least residual sum of squares of the ramps with that ψ, minus
the least of all. Its interval are the ψ with D(ψ) below a cut-off: a quantile of D at the true ψ, over curves drawn
from ramps that the curve makes likely, with noise of sizes that it makes likely.
"""

import math
from dataclasses import dataclass

import numpy as np

from induction_bump.locate.curve import Array, Curve
from induction_bump.locate.noise import Noise, fit_noise
from induction_bump.locate.ramp import EDGE, SHAPES, RampFit, Ramps, RampSearch, Whitened, designs, ramps_between

CONFIDENCE = 0.90
_QUANTILE, _QUANTILE_OF_DROP = 0.93, 0.95
"""Of the distances that makes the cut-off. More than CONFIDENCE, because the noise is estimated from the curve as well:
with these, intervals hold the truth in about 94 % of all simulated curves, and near 90 % of the hardest
(docs/locating.md)."""
PARAMETERS = 6
"""Of a ramp: constant, drift, bend, drop, onset and end."""

_FINE = 24
"""Onsets, and ends, on each finer grid."""
_ROUNDS = (True, True, False)
"""Grids that close in: whether about the best of every shape, or about the best of all."""
_NEAR = 16.0
"""Ramps whose D is larger are left out of the finer grids."""


@dataclass(frozen=True)
class Range:
    """An estimate with its 90 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Place:
    """The best ramp of a curve that changes: when it begins and ends, and how far it goes."""

    onset: Range
    """In tokens, as are `midpoint` and `end`."""
    midpoint: Range
    end: Range
    width: Range
    """ln(end/onset)."""
    drop: Range
    """How far the drift after lies from the drift before, at the midpoint, in the direction that was asked for."""
    share: Range | None
    """Of the value at the last snapshot: what is gained between onset and end; None where that value is too small."""
    value_before: float
    """Of the fitted curve at the onset."""
    value_after: float
    """And at the end."""
    wandering: float
    """How much the slope of the drifts wanders (`noise.Noise`)."""
    relaxing: float
    """How much may be gained after the end at a rate that falls off (κ of `noise.Relaxation`, 0 for none)."""
    corners: tuple[float, float]
    """Roundings of the ramp at its onset and end (`ramp.SHAPES`)."""
    phi: float
    """Correlation of the jitter over the median distance between snapshots."""
    jitter: float
    """Its standard deviation."""
    fitted: Array
    """S: the best ramp at the snapshots."""


class Placing:
    """The ramps near the best one of a curve, their fits, and what curves drawn from them do on them."""

    @classmethod
    def about(cls, curve: Curve, grid: Ramps, best: Ramps, draws: int, random: np.random.Generator) -> "Placing | None":
        """Estimate the noise about the best ramp, and about the one that is best with it; close in on that.

        None where, with the noise that it leaves, the curve rises on no ramp of the grid.
        """
        noise = _noise_about(curve, best)
        fit = _fit(curve, grid, noise)
        if np.isfinite(fit.rising()).any():
            noise = _noise_about(curve, fit.best(grid))
            fit = _fit(curve, grid, noise)
        return cls(curve, noise, grid, draws, random) if np.isfinite(fit.rising()).any() else None

    def __init__(self, curve: Curve, noise: Noise, grid: Ramps, draws: int, random: np.random.Generator) -> None:
        self.curve, self.noise = curve, noise
        for each_shape in _ROUNDS:
            closer = self._closer(grid, _fit(curve, grid, noise).rising()[:, 0], each_shape=each_shape)
            if not np.isfinite(_fit(curve, closer, noise).rising()).any():  # they hardly rise, and between them none
                break
            grid = closer
        self.grid = grid
        self.search = _search(curve, grid, noise)
        self.fit = self.search.fit(curve.values[:, None])
        rss = self.fit.rising()[:, 0]
        self.best = int(rss.argmin())
        self.distance = rss - rss.min()
        self.quantities = {
            "onset": self.grid.onset,
            "midpoint": self.grid.midpoint,
            "end": self.grid.end,
            "width": self.grid.width,
        }
        self.bins = {name: _bins(places) for name, places in self.quantities.items()}
        self._bootstrap(draws, random)

    def _closer(self, grid: Ramps, rss: Array, *, each_shape: bool) -> Ramps:
        """A finer grid about the best; each_shape: about the best of every shape, as long as grids are coarse."""
        # a coarse grid may miss the curve by more than noise does
        missed = max(1.0, float(rss.min()) / (len(self.curve) - PARAMETERS))
        least = np.full(len(SHAPES), rss.min())
        if each_shape:
            least = np.array([rss[grid.shape == k].min(initial=np.inf) for k in range(len(SHAPES))])
        near = grid.take(np.flatnonzero(rss <= least[grid.shape] + _NEAR * missed))
        x = self.curve.x
        inner = (x[EDGE], x[-1 - EDGE])
        axes = []
        for places, every in ((near.onset, grid.onset), (near.end, grid.end)):
            steps = np.unique(every)
            pad = np.diff(steps).max(initial=0.0) if len(steps) < 3 else _spacing(steps, places)
            low, high = np.clip([places.min() - pad, places.max() + pad], *inner)
            axes.append(np.linspace(low, high, _FINE))
        least = 0.2 * float(np.diff(x).min())
        return ramps_between(axes[0], axes[1], np.unique(near.shape), least)

    def _bootstrap(self, draws: int, random: np.random.Generator) -> None:
        """Cut-offs of the profiles, over curves drawn from the ramps that the curve itself makes likely."""
        likely = np.exp(-self.distance / 2)
        truths = random.choice(len(self.grid), size=draws, p=likely / likely.sum())
        self.truths = truths
        curves = {int(k): self._ramp_at(int(k), self.curve.x) for k in np.unique(truths)}
        drawn = np.column_stack([curves[int(k)] for k in truths]) + self.noise.draw(draws, random)
        fit = self.search.fit(drawn)
        rss = fit.rising()
        # a curve on which no ramp rises says nothing
        rss = np.where(np.isfinite(rss.min(0)), rss, np.nan)
        least = rss.min(0)
        self.cutoffs = {
            name: _quantile(_least_by(bins, rss)[bins[truths], np.arange(draws)] - least)
            for name, bins in self.bins.items()
        }
        with np.errstate(invalid="ignore"):  # infinite where a ramp is not seen
            tied = rss + (self.fit.drop[truths, 0] - fit.drop) ** 2 / fit.drop_variance[:, None]
        self.cutoffs["drop"] = _quantile(tied.min(0) - least, _QUANTILE_OF_DROP)

    def _range(self, name: str) -> Range:
        places = self.quantities[name]
        inside = places[self.distance <= self.cutoffs[name]]
        step = _half_step(places)
        low, high = float(inside.min()) - step, float(inside.max()) + step
        return Range(float(places[self.best]), max(low, 0.0) if name == "width" else low, high)

    def _drop(self) -> Range:
        rss, drop, variance = self.fit.rising()[:, 0], self.fit.drop[:, 0], self.fit.drop_variance
        room = self.cutoffs["drop"] - (rss - rss.min())
        inside = room >= 0
        reach = np.sqrt(variance[inside] * room[inside])
        return Range(float(drop[self.best]), float((drop[inside] - reach).min()), float((drop[inside] + reach).max()))

    def _ramp_at(self, ramp: int, where: Array) -> Array:
        """The ramp itself as it fits the curve, at some places."""
        one, x = self.grid.take(np.array([ramp])), self.curve.x
        # places beside the snapshots, so that all share their centre
        whitened = Whitened(self.noise.whitening, self.noise.relaxation)
        design = designs(np.concatenate([x, where]), one, self.noise.relaxation)
        design[:, :, 1] = np.concatenate([x, where]) - x.mean()
        seen = np.column_stack([whitened.column(design[:, : len(x)], k)[0] for k in range(design.shape[2])])
        coefficients = np.linalg.lstsq(seen, whitened.values(self.curve.values[:, None]), rcond=None)[0]
        return design[0, len(x) :] @ coefficients[:, 0]

    def _fitted(self, ramp: int, where: Array) -> Array:
        """The same with the wandering of its drifts, and as this probe has it: the curve without jitter."""
        x = self.curve.x
        departed = self.noise.lasted(self.curve.values - self._ramp_at(ramp, x))
        return self._ramp_at(ramp, where) + np.interp(where, x, departed)

    def _gained(self, ramp: int) -> Array:
        """Fitted values at onset, end and the last snapshot."""
        return self._fitted(ramp, np.array([self.grid.onset[ramp], self.grid.end[ramp], self.curve.x[-1]]))

    def _share(self, least: float | None) -> Range | None:
        """The share of the last value, with its interval over the ramps that the curve makes likely."""
        final = self._gained(self.best)[2]
        if least is None or abs(final) <= least:
            return None
        gained = {int(ramp): self._gained(int(ramp)) for ramp in {self.best, *self.truths.tolist()}}
        shares = {ramp: float((after - before) / last) for ramp, (before, after, last) in gained.items()}
        tails = np.quantile([shares[int(k)] for k in self.truths], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return Range(shares[self.best], float(tails[0]), float(tails[1]))

    def described(self, direction: int, least: float | None) -> Place:
        """What was found; see `find_change`."""
        before, after, _ = self._gained(self.best)
        return Place(
            onset=_in_tokens(self._range("onset")),
            midpoint=_in_tokens(self._range("midpoint")),
            end=_in_tokens(self._range("end")),
            width=self._range("width"),
            drop=self._drop(),
            share=self._share(least),
            value_before=direction * float(before),
            value_after=direction * float(after),
            wandering=self.noise.wandering,
            relaxing=self.noise.relaxation.size if self.noise.relaxation else 0.0,
            corners=SHAPES[int(self.grid.shape[self.best])],
            phi=self.noise.phi,
            jitter=self.noise.jitter,
            fitted=direction * self._fitted(self.best, self.curve.x),
        )


def _spacing(steps: Array, places: Array) -> float:
    """The largest distance between neighbouring places of a grid about those that are near."""
    within = steps[(steps >= places.min()) & (steps <= places.max())]
    first, last = (int(np.searchsorted(steps, v)) for v in (within[0], within[-1]))
    around = steps[max(first - 1, 0) : last + 2]
    return float(np.diff(around).max(initial=0.0))


def _half_step(places: Array) -> float:
    """Half the width of the bins of a quantity."""
    return float(np.ptp(places)) / (_FINE - 1) / 2


def _bins(places: Array) -> np.ndarray:
    """Which of _FINE bins, with the least and the largest at the middle of one, each ramp belongs to."""
    step = 2 * _half_step(places)
    return np.rint((places - places.min()) / step).astype(np.int64) if step else np.zeros(len(places), np.int64)


def _least_by(bins: np.ndarray, rss: Array) -> Array:
    """bins × D: the least of the rows (G × D) of each bin; infinite for an empty one."""
    least = np.full((int(bins.max()) + 1, rss.shape[1]), np.inf)
    order = np.argsort(bins, kind="stable")
    present, starts = np.unique(bins[order], return_index=True)
    least[present] = np.minimum.reduceat(rss[order], starts, axis=0)
    return least


def _quantile(distances: Array, share: float = _QUANTILE) -> float:
    told = distances[np.isfinite(distances)]
    return float(np.quantile(told, share)) if len(told) else math.inf


def _in_tokens(interval: Range) -> Range:
    return Range(math.exp(interval.value), math.exp(interval.low), math.exp(interval.high))


def _search(curve: Curve, grid: Ramps, noise: Noise) -> RampSearch:
    return RampSearch(curve.x, grid, noise.whitening, noise.relaxation)


def _fit(curve: Curve, grid: Ramps, noise: Noise) -> RampFit:
    return _search(curve, grid, noise).fit(curve.values[:, None])


def _noise_about(curve: Curve, best: Ramps) -> Noise:
    """Noise about one ramp, whose own place is free as well: its derivatives are columns of the design."""
    return fit_noise(curve, _tangent_design(curve.x, best), float(best.end[0]))


def _tangent_design(x: Array, best: Ramps) -> Array:
    step = 0.02 * float(best.width[0])
    design = designs(x, best)[0]
    moved = (Ramps(best.onset + step, best.end, best.shape), Ramps(best.onset, best.end + step, best.shape))
    derivatives = [(ramp.columns(x)[0][0] - design[:, -1]) / 0.02 for ramp in moved]
    design = np.column_stack([design, *derivatives])
    # a ramp between two snapshots has no derivative that they see
    base, sizes, _ = np.linalg.svd(design, full_matrices=False)
    return base[:, sizes > 1e-6 * sizes[0]]
