"""The phase change of a curve: whether it has one, when, and how sure that is (measures.md §6).

1. Test. The best drift (drift.py) is held against the best ramp (ramp.py), both by generalised least squares with the
   noise that the drift leaves. How large their ratio of residuals becomes by chance is seen on curves drawn from the
   drift and its noise (a parametric bootstrap).
2. Place. The noise is estimated anew about the ramp, ramps are searched on grids that close in on the best, finer than
   the snapshots, and every quantity ψ gets its profile D(ψ) = (S − 6) · ln(least RSS of the ramps with that ψ / least
   RSS). Its interval are the ψ with D(ψ) below a cut-off: the 90 % quantile of D at the true ψ over curves drawn from
   the fitted ramp and its noise.
"""

import math
from dataclasses import dataclass

import numpy as np

from induction_bump.locate.curve import Array, Curve
from induction_bump.locate.drift import DriftSearch, fit_drift
from induction_bump.locate.noise import Noise, fit_noise
from induction_bump.locate.ramp import SHAPES, RampFit, Ramps, RampSearch, designs, ramps_between

CONFIDENCE = 0.90
LEVEL = 0.01
"""A change is one where drifts with noise look so much like one at most this often."""
LEAST_SNAPSHOTS = 12
DRAWS = 199
ABRUPT = math.log(3)

_EDGE = 2
"""Snapshots before the earliest onset and after the latest end, less one: where less is seen, a drift is not known."""
_COARSE = 26
_FINE = 24
_ROUNDS = 3
_NEAR = 16.0
"""Ramps whose D is larger are left out of the finer grids."""
_PARAMETERS = 6
_CURVED = 9.0
"""By how much curved drifts, two parameters more, must lower the residual sum of squares to be believed."""


class TooFewSnapshotsError(ValueError):
    """A curve of too few snapshots to find a change in."""


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
    curved: bool
    """Whether the drifts are curved."""
    corners: tuple[float, float]
    """Roundings of the ramp at its onset and end (`ramp.SHAPES`)."""
    phi: float
    """Correlation of the jitter over the median distance between snapshots."""
    jitter: float
    """Its standard deviation."""
    fitted: Array
    """S: the best ramp at the snapshots."""


@dataclass(frozen=True)
class Change:
    """Whether a curve changes more than drifts do."""

    p: float
    """How often drifts with noise look at least so much like a change."""
    drift: str
    """The drift that it was held against."""
    most_drop: float
    """Upper bound of the drop of any ramp no wider than ABRUPT, were the curve a drift: what could be hidden in it."""
    n: int
    """Snapshots."""
    place: Place | None
    """None where p is above LEVEL: what is not there has no place."""


def find_change(
    curve: Curve, *, direction: int, random: np.random.Generator, least_final: float | None = None, draws: int = DRAWS
) -> Change:
    """Hold the best ramp of a curve against the best drift, and place it where it is better than chance.

    direction: −1 for one that falls, +1 for one that rises; least_final: the least value at the last snapshot of which
    a share is told (never one where it is None).
    Raises TooFewSnapshotsError for a curve of fewer than LEAST_SNAPSHOTS snapshots.
    """
    if len(curve) < LEAST_SNAPSHOTS:
        raise TooFewSnapshotsError(f"{len(curve)} snapshots; {LEAST_SNAPSHOTS} are the least")
    if not np.ptp(curve.values):
        raise TooFewSnapshotsError("the same value at every snapshot")
    signed = Curve(curve.steps, curve.tokens, direction * curve.values, curve.probe)
    drift = fit_drift(signed)
    grid = _coarse(signed.x)
    against = RampSearch(signed.x, grid, drift.noise.whitening, curved=False)
    first = against.fit(signed.values[:, None])
    p = _p_value(signed, drift.fitted, drift.noise, against, first, draws, random)
    most_drop = _most_drop(against, first, len(curve))
    place = None
    if p <= LEVEL:
        place = _locate(signed, grid, _best(grid, first), draws, random).described(direction, least_final)
    return Change(p, drift.name, most_drop, len(curve), place)


def _locate(curve: Curve, grid: Ramps, best: Ramps, draws: int, random: np.random.Generator) -> "_Search":
    """Choose between straight and curved drifts, estimate the noise about the ramp, and close in on it."""
    values = curve.values[:, None]
    noise = _noise_about(curve, best, curved=True)
    fits = [RampSearch(curve.x, grid, noise.whitening, curved=c).fit(values) for c in (False, True)]
    least = [float(fit.rising().min()) for fit in fits]
    curved = least[0] - least[1] > _CURVED
    if np.isfinite(least[curved]):
        best = _best(grid, fits[curved])
    return _Search(curve, _noise_about(curve, best, curved=curved), grid, draws, random, curved=curved)


def _coarse(x: Array) -> Ramps:
    places = np.interp(np.linspace(_EDGE, len(x) - 1 - _EDGE, _COARSE), np.arange(len(x)), x)
    return ramps_between(places, places, np.arange(len(SHAPES)), float(np.diff(places).min()) / 2)


def _p_value(
    curve: Curve,
    fitted: Array,
    noise: Noise,
    ramps: RampSearch,
    first: RampFit,
    draws: int,
    random: np.random.Generator,
) -> float:
    drifts = DriftSearch(curve.x, noise.whitening)
    seen = drifts.least(curve.values[:, None]) / first.rising().min(0)
    drawn = fitted[:, None] + noise.draw(draws, random)
    by_chance = drifts.least(drawn) / ramps.fit(drawn).rising().min(0)
    return float((1 + (by_chance >= seen).sum()) / (draws + 1))


def _most_drop(ramps: RampSearch, fit: RampFit, n: int) -> float:
    scale = np.sqrt(fit.drop_variance * fit.rss[:, 0].min() / (n - _PARAMETERS))
    narrow = (ramps.ramps.width <= ABRUPT) & np.isfinite(fit.rss[:, 0])
    return float((fit.drop[:, 0] + 1.645 * scale)[narrow].max(initial=0.0))


def _best(grid: Ramps, fit: RampFit) -> Ramps:
    return grid.take(np.array([int(fit.rising()[:, 0].argmin())]))


def _noise_about(curve: Curve, best: Ramps, *, curved: bool) -> Noise:
    """Noise about one ramp, whose own place is free as well: its derivatives are columns of the design."""
    return fit_noise(curve, _tangent_design(curve.x, best, curved=curved))


def _tangent_design(x: Array, best: Ramps, *, curved: bool) -> Array:
    step = 0.02 * float(best.width[0])
    design = designs(x, best, curved=curved)[0]
    moved = (Ramps(best.onset + step, best.end, best.shape), Ramps(best.onset, best.end + step, best.shape))
    derivatives = [(ramp.columns(x)[0][0] - design[:, -1]) / 0.02 for ramp in moved]
    design = np.column_stack([design, *derivatives])
    # a ramp between two snapshots has no derivative that they see
    base, sizes, _ = np.linalg.svd(design, full_matrices=False)
    return base[:, sizes > 1e-6 * sizes[0]]


class _Search:
    """The ramps near the best one, their fits, and what curves drawn from the best do on them."""

    def __init__(
        self, curve: Curve, noise: Noise, grid: Ramps, draws: int, random: np.random.Generator, *, curved: bool
    ) -> None:
        self.curve, self.noise, self.curved = curve, noise, curved
        self.freedom = len(curve) - _PARAMETERS - 2 * curved
        for last in [False] * _ROUNDS + [True]:
            search = RampSearch(curve.x, grid, noise.whitening, curved=curved)
            fit = search.fit(curve.values[:, None])
            rss = fit.rising()[:, 0]
            if last:
                break
            grid = self._closer(grid, rss)
        self.search, self.fit, self.grid = search, fit, grid
        self.best = int(rss.argmin())
        self.distance = self._distance(rss, rss.min())
        self._bootstrap(draws, random)

    def _distance(self, rss: Array, least: Array | float) -> Array:
        return self.freedom * np.log(rss / least)

    def _closer(self, grid: Ramps, rss: Array) -> Ramps:
        near = grid.take(np.flatnonzero(self._distance(rss, rss.min()) <= _NEAR))
        x = self.curve.x
        inner = (x[_EDGE], x[-1 - _EDGE])
        axes = []
        for places, every in ((near.onset, grid.onset), (near.end, grid.end)):
            steps = np.unique(every)
            pad = np.diff(steps).max(initial=0.0) if len(steps) < 3 else _spacing(steps, places)
            low, high = np.clip([places.min() - pad, places.max() + pad], *inner)
            axes.append(np.linspace(low, high, _FINE))
        least = 0.2 * float(np.diff(x).min())
        return ramps_between(axes[0], axes[1], np.unique(near.shape), least)

    def _bootstrap(self, draws: int, random: np.random.Generator) -> None:
        self.fitted = self._curve_of(self.best, self.curve.values, self.curve.x)
        drawn = self.fitted[:, None] + self.noise.draw(draws, random)
        fit = self.search.fit(drawn)
        rss = fit.rising()
        least = rss.min(0)
        self.cutoffs = {}
        for name, places in self._quantities().items():
            at_truth = np.abs(places - places[self.best]) <= _half_step(places)
            self.cutoffs[name] = _quantile(self._distance(rss[at_truth].min(0), least))
        drop = self.fit.drop[self.best, 0]
        with np.errstate(invalid="ignore"):
            tied = (rss + (drop - fit.drop) ** 2 / fit.drop_variance[:, None]).min(0)
        self.cutoffs["drop"] = _quantile(self._distance(tied, least))
        self.redrawn = drawn, rss.argmin(0)

    def _quantities(self) -> dict[str, Array]:
        return {
            "onset": self.grid.onset,
            "midpoint": self.grid.midpoint,
            "end": self.grid.end,
            "width": self.grid.width,
        }

    def _range(self, name: str) -> Range:
        places = self._quantities()[name]
        inside = places[self.distance <= self.cutoffs[name]]
        step = _half_step(places)
        low, high = float(inside.min()) - step, float(inside.max()) + step
        return Range(float(places[self.best]), max(low, 0.0) if name == "width" else low, high)

    def _drop(self) -> Range:
        rss, drop, variance = self.fit.rising()[:, 0], self.fit.drop[:, 0], self.fit.drop_variance
        room = rss.min() * np.exp(self.cutoffs["drop"] / self.freedom) - rss
        inside = room >= 0
        reach = np.sqrt(variance[inside] * room[inside])
        return Range(
            float(drop[self.best]), float((drop[inside] - reach).min()), float((drop[inside] + reach).max())
        )

    def _curve_of(self, ramp: int, values: Array, where: Array) -> Array:
        """The fit of one ramp to S values, at some places."""
        one, x = self.grid.take(np.array([ramp])), self.curve.x
        # places beside the snapshots, so that all share their centre
        design = designs(np.concatenate([x, where]), one, curved=self.curved)[0]
        design[:, 1] = np.concatenate([x, where]) - x.mean()
        seen = self.noise.whitening @ design[: len(x)]
        return design[len(x) :] @ np.linalg.lstsq(seen, self.noise.whitening @ values, rcond=None)[0]

    def _gained(self, ramp: int, values: Array) -> Array:
        """Fitted values at onset, end and the last snapshot."""
        where = np.array([self.grid.onset[ramp], self.grid.end[ramp], self.curve.x[-1]])
        return self._curve_of(ramp, values, where)

    def _share(self, least: float | None) -> Range | None:
        before, after, final = self._gained(self.best, self.curve.values)
        if least is None or abs(final) <= least:
            return None
        drawn, chosen = self.redrawn
        shares = []
        for k, ramp in enumerate(chosen):
            low, high, last = self._gained(int(ramp), drawn[:, k])
            if last:
                shares.append((high - low) / last)
        tails = np.quantile(shares, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return Range(float((after - before) / final), float(tails[0]), float(tails[1]))

    def described(self, direction: int, least: float | None) -> Place:
        """What was found; see `find_change`."""
        before, after, _ = self._gained(self.best, self.curve.values)
        return Place(
            onset=_in_tokens(self._range("onset")),
            midpoint=_in_tokens(self._range("midpoint")),
            end=_in_tokens(self._range("end")),
            width=self._range("width"),
            drop=self._drop(),
            share=self._share(least),
            value_before=direction * float(before),
            value_after=direction * float(after),
            curved=self.curved,
            corners=SHAPES[int(self.grid.shape[self.best])],
            phi=self.noise.phi,
            jitter=self.noise.jitter,
            fitted=direction * self.fitted,
        )


def _spacing(steps: Array, places: Array) -> float:
    """The largest distance between neighbouring places of a grid about those that are near."""
    within = steps[(steps >= places.min()) & (steps <= places.max())]
    first, last = (int(np.searchsorted(steps, v)) for v in (within[0], within[-1]))
    around = steps[max(first - 1, 0) : last + 2]
    return float(np.diff(around).max(initial=0.0))


def _half_step(places: Array) -> float:
    """Half the usual distance between the places of a grid."""
    steps = np.diff(np.unique(np.round(places, 9)))
    return float(np.median(steps)) / 2 if len(steps) else 0.0


def _quantile(distances: Array) -> float:
    return float(np.quantile(distances[np.isfinite(distances)], CONFIDENCE))


def _in_tokens(interval: Range) -> Range:
    return Range(math.exp(interval.value), math.exp(interval.low), math.exp(interval.high))
