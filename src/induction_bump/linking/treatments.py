"""How far a treatment moves the time of the bump, with runs as the unit (docs/linking.md#runs-are-the-unit).

Times are compared as ln(tokens), so an effect is a ratio: 0.5 is twice as early. Runs that ended without the bump are
censored, and of runs that had it at the first snapshot only that is known; where there are any of either, tests go over
log-rank scores (permutation.py), and the ratio is bounded, not estimated.
"""

import itertools
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from induction_bump.linking.equivalence import LEVEL, holm, seeds_for_difference
from induction_bump.linking.permutation import (
    Test,
    logrank_scores,
    sign_flip,
    smallest_paired,
    smallest_unpaired,
    two_groups,
)
from induction_bump.records.cells import Cells

Array = npt.NDArray[np.float64]
Direction = Literal["earlier", "later", "cannot tell", "no bump in either", "no time"]
Interval = Literal["95 %", "range of pairs"]


@dataclass(frozen=True)
class Effect:
    """A cell against the cell that it is compared with."""

    cell: str
    reference: str
    n: int
    """Runs of the cell whose time is known or bounded."""
    n_reference: int
    censored: int
    """Runs of the cell that ended without the bump."""
    censored_reference: int
    ratio: float = np.nan
    """Geometric mean time over the reference's; with censored runs the median ratio of all pairs of runs (Hodges and
    Lehmann), ∞ or 0 where that is beyond what was trained, NaN where nothing is known of the pair in the middle."""
    ratio_low: float = np.nan
    ratio_high: float = np.nan
    interval: Interval | None = None
    """What lies between both: a 95 % interval by Student's t on ln(tokens), of pairs or after Welch; with censored runs
    all ratios that some pair of runs allows, which says nothing of their mean."""
    d: float = np.nan
    """Cohen's d of ln(tokens): the mean difference in standard deviations, of the pairs' differences where paired, else
    pooled, corrected for small samples after Hedges."""
    difference: float = np.nan
    """What the test compares, its mean over the cell minus that over the reference: in ln(tokens), or log-rank scores
    where runs are censored. Below 0 is earlier."""
    test: Test | None = None
    paired: bool = False
    p_holm: float = np.nan
    """The test's p, corrected for all comparisons of the study (Holm)."""
    comparisons: int = 1
    """Comparisons that p is corrected for."""
    before: int = 0
    """Runs of the cell that had the bump at the first snapshot."""
    before_reference: int = 0
    seeds_needed: int | None = None
    """Where the answer is "cannot tell": seeds a cell with which the corrected test would tell 4 times in 5, were the
    effect seen the true one. None with censored runs and beyond `equivalence.MOST_SEEDS`."""

    @property
    def could_tell(self) -> bool:
        """Whether so many runs could have given a corrected p ≤ 0.05 at all."""
        return self.test is not None and self.test.smallest * self.comparisons <= LEVEL

    @property
    def fewest(self) -> int:
        """Runs a cell with which unpaired comparisons, so many of them, could."""
        return next(n for n in itertools.count(2) if smallest_unpaired(n, n) * self.comparisons <= LEVEL)

    @property
    def direction(self) -> Direction:
        """What the corrected test says."""
        if self.test is None:
            if not self.n or not self.n_reference:
                return "no time"
            never = self.censored == self.n and self.censored_reference == self.n_reference
            return "no bump in either" if never else "cannot tell"
        if not self.p_holm <= LEVEL:
            return "cannot tell"
        return "earlier" if self.difference < 0 else "later"


@dataclass(frozen=True)
class _Sample:
    """Runs of one cell."""

    seeds: npt.NDArray[np.str_]
    ln: Array
    """ln(tokens) of the estimate, or of the end of a censored run; −∞ where it was there at the first snapshot."""
    observed: npt.NDArray[np.bool_]
    """False for a censored run."""

    def __len__(self) -> int:
        return len(self.ln)

    @property
    def early(self) -> npt.NDArray[np.bool_]:
        """Which runs had the bump at the first snapshot."""
        return np.isneginf(self.ln)

    @property
    def known(self) -> bool:
        """Whether the time of every run is."""
        return bool(self.observed.all() and not self.early.any())


def effects(times: pd.DataFrame, cells: Cells, reference: str | None = None) -> list[Effect]:
    """Each cell against its own reference (`Cells.reference_of`), or all against one; p corrected after Holm.

    times: what `times.event_times` gives. Runs whose time is undefined are left out; those that had the bump at the
    first snapshot are earlier than all others. Pairs of runs with the same seeds are compared where these alone can
    reach p ≤ 0.05 after correction, else the two groups: decided by the number of runs, before looking at their times.
    Raises ValueError for an unknown reference.
    """
    if reference is not None and reference not in cells.names:
        raise ValueError(f"--reference: no cell is called '{reference}'; there are: {'; '.join(cells.names)}")
    plainest = reference or cells.plainest()
    pairs = [
        (cell, other)
        for cell in cells.names
        if (other := plainest if reference else cells.reference_of(cell, plainest)) is not None and other != cell
    ]
    found = [
        compare(cell, _sample(times, cells, cell), other, _sample(times, cells, other), len(pairs))
        for cell, other in pairs
    ]
    return [replace(effect, seeds_needed=_seeds_needed(effect)) for effect in _holm(found)]


def _sample(times: pd.DataFrame, cells: Cells, cell: str) -> _Sample:
    own = times.set_index("run_id").reindex(cells.runs(cell)).query("state in ['located', 'before', 'after']")
    state = own["state"].to_numpy(str)
    tokens = np.where(state == "located", np.asarray(own["estimate"], np.float64), np.asarray(own["low"], np.float64))
    ln = np.where(state == "before", -np.inf, np.log(np.maximum(tokens, 1.0)))
    return _Sample(cells.table.loc[own.index, "seed"].to_numpy(str), ln, state != "after")


def compare(cell: str, treated: _Sample, other: str, reference: _Sample, comparisons: int = 1) -> Effect:
    """One cell against another; `comparisons` is how many p will be corrected for."""
    from scipy.stats import rankdata

    counts = (len(treated), len(reference), int((~treated.observed).sum()), int((~reference.observed).sum()))
    if not len(treated) or not len(reference) or not (treated.observed.any() or reference.observed.any()):
        return Effect(cell, other, *counts)
    early = {"before": int(treated.early.sum()), "before_reference": int(reference.early.sum())}
    common = np.intersect1d(treated.seeds, reference.seeds)
    paired = len(common) > 1 and smallest_paired(len(common)) * comparisons <= LEVEL
    if paired:
        treated, reference = _of_seeds(treated, common), _of_seeds(reference, common)
    whole = treated.known and reference.known
    values, what = (treated.ln, reference.ln), "mean ln(tokens)"
    if not whole:
        # ranks, since only the order counts and −∞ is no time
        order = rankdata(np.concatenate([treated.ln, reference.ln]))
        scores = logrank_scores(order, np.concatenate([treated.observed, reference.observed]))
        values, what = (scores[: len(treated)], scores[len(treated) :]), "mean log-rank score"
    difference, test = float(values[0].mean() - values[1].mean()), None
    if paired:
        test = sign_flip(values[0] - values[1], what)
    elif min(counts[:2]) > 1:
        test = two_groups(values[1], values[0], what)
    numbers = _measured(treated, reference, paired) if whole else _bounded(treated, reference)
    told = {"difference": difference, "test": test, "paired": paired, "comparisons": comparisons}
    return Effect(cell, other, *counts, **told, **early, **numbers)


def _of_seeds(sample: _Sample, seeds: npt.NDArray[np.str_]) -> _Sample:
    place = np.array([int(np.flatnonzero(sample.seeds == seed)[0]) for seed in seeds])
    return _Sample(sample.seeds[place], sample.ln[place], sample.observed[place])


def _measured(treated: _Sample, reference: _Sample, paired: bool) -> dict[str, Any]:
    """Ratio with its interval, and d."""
    from scipy.stats import t

    x, y = treated.ln, reference.ln
    shift = float(x.mean() - y.mean())
    if len(x) < 2 or len(y) < 2:
        return {"ratio": float(np.exp(shift))}
    if paired:
        variances, freedom = np.array([(x - y).var(ddof=1) / len(x)]), len(x) - 1.0
        spread = float((x - y).std(ddof=1))
    else:
        variances = np.array([x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)])
        degrees = np.array([len(x), len(y)]) - 1.0
        freedom = float(variances.sum() ** 2 / (variances**2 / degrees).sum()) if variances.sum() else degrees.sum()
        spread = float(np.sqrt((degrees * np.array([x.var(ddof=1), y.var(ddof=1)])).sum() / degrees.sum()))
    half = float(t.ppf(0.975, freedom) * np.sqrt(variances.sum()))
    pooled_freedom = len(x) - 1 if paired else len(x) + len(y) - 2
    hedges = 1 - 3 / (4 * pooled_freedom - 1) if pooled_freedom > 1 else 1.0
    ratio, low, high = (float(value) for value in np.exp([shift, shift - half, shift + half]))
    return {
        "ratio": ratio,
        "ratio_low": low,
        "ratio_high": high,
        "interval": "95 %",
        "d": hedges * shift / spread if spread else np.nan,
    }


def _seeds_needed(effect: Effect) -> int | None:
    """See `Effect.seeds_needed`: at the level that the first step of Holm asks for, and more than there are."""
    if effect.direction != "cannot tell" or np.isnan(effect.d):
        return None
    level, there = LEVEL / effect.comparisons, max(effect.n, effect.n_reference)
    return seeds_for_difference(effect.d, 1.0, paired=effect.paired, level=level, more_than=there)


def _bounded(treated: _Sample, reference: _Sample) -> dict[str, Any]:
    """What pairs of runs, one of each cell, say about the ratio when the times of some are only bounded."""
    with np.errstate(invalid="ignore"):  # both early, −∞ − −∞
        known = treated.ln[:, None] - reference.ln[None, :]
    later = ~treated.observed[:, None] & reference.observed[None, :]
    earlier = treated.observed[:, None] & ~reference.observed[None, :]
    neither = ~treated.observed[:, None] & ~reference.observed[None, :]
    neither |= treated.early[:, None] & reference.early[None, :]
    ln = np.where(later, np.inf, np.where(earlier, -np.inf, known))
    low = np.where(earlier | neither, -np.inf, known)
    high = np.where(later | neither, np.inf, known)
    ratio, least, most = (float(value) for value in np.exp([_median(ln, neither), low.min(), high.max()]))
    return {"ratio": ratio, "ratio_low": least, "ratio_high": most, "interval": "range of pairs"}


def _median(values: Array, unknown: npt.NDArray[np.bool_]) -> float:
    """Of ln ratios that may be infinite, the unknown ones put at 0, where they lean to neither side.

    NaN where one of these comes to lie in the middle. Of two that do, the mean, or the lower where one is infinite.
    """
    order = np.argsort(np.where(unknown, 0.0, values), axis=None)
    middle = order[[(len(order) - 1) // 2, len(order) // 2]]
    if unknown.ravel()[middle].any():
        return np.nan
    below, above = (float(value) for value in values.ravel()[middle])
    return below if np.isinf(below) or np.isinf(above) else (below + above) / 2


def _holm(found: list[Effect]) -> list[Effect]:
    corrected = iter(holm([effect.test.p for effect in found if effect.test is not None]))
    return [replace(effect, p_holm=next(corrected)) if effect.test else effect for effect in found]
