"""Whether cells are the same, where some of their runs may have ended without the bump or had it from the start."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from induction_bump.linking.claims.claim import Finding
from induction_bump.linking.claims.evidence import Evidence
from induction_bump.linking.claims.wording import ends, number
from induction_bump.linking.equivalence import Pair, compare_pairs, equivalence, holm, seeds_for_equivalence
from induction_bump.linking.permutation import logrank_scores, two_groups

Array = npt.NDArray[np.float64]
SAME_RATIO = 1.25
"""Ratio within which times count as the same."""
SAME_TIME = float(np.log(SAME_RATIO))
"""Its ln."""
_NEEDS = "trainings in which all runs have the bump, after the first snapshot"


@dataclass(frozen=True)
class _Times:
    ln: Array
    """ln(tokens) of the bump, or of the last that is known of a run without one; −∞ where it was from the start."""
    observed: npt.NDArray[np.bool_]

    @property
    def censored(self) -> int:
        return int((~self.observed).sum())

    @property
    def early(self) -> int:
        return int(np.isneginf(self.ln).sum())

    @property
    def known(self) -> bool:
        return not self.censored and not self.early


def same_in_all(groups: Mapping[str, Array], margin: float, unit: str, pairs: Sequence[Pair] | None = None) -> Finding:
    """The verdict of an equivalence test over several groups of runs."""
    test = equivalence(groups, margin, pairs)
    pair = " and ".join(test.groups)
    which = f"the two least alike of {len(groups)} are {pair}: they" if len(groups) > 2 else pair
    p = f"within it {test.p_differ:.2g}" if test.differ else f"beyond it {test.p:.2g}"
    found = (
        f"{which} differ by {number(test.difference, '+.2f')} {unit} {ends(test.low, test.high, '+.2f')}, "
        f"against ±{margin:.2g}; p of a difference {p}"
    )
    n = sum(len(values) for values in groups.values())
    if test.differ:
        return Finding("contradicted", found, n)
    if test.same:
        return Finding("supported", found, n)
    spread = float(np.sqrt(np.mean([np.var(groups[name], ddof=1) for name in test.groups])))
    seeds = seeds_for_equivalence(margin, spread)
    return Finding("cannot tell", found, n, f"{seeds or 'more than 1,000'} seeds a model, if they are truly the same")


def same_times(study: Evidence, cells: Iterable[str], pairs: Sequence[Pair] | None = None) -> Finding | None:
    """Whether the bump comes at the same time within a factor of 1.25 in some cells: `same_in_all` of ln(tokens).

    Where a run ended without the bump, or had it from the start, cells cannot be shown to be the same. They differ
    where one is later than 1.25 times the other by `p_beyond` (two cells in which all times are known: by Welch's
    test), corrected for all pairs. Cells with fewer than two runs of which the time is known or bounded are left out,
    and named. pairs: which cells are compared; by default every two. None where fewer than two are left.
    """
    everything = {name: _times(study, name) for name in cells}
    times = {name: own for name, own in everything.items() if len(own.ln) > 1}
    compared = [pair for pair in pairs or combinations(everything, 2) if set(pair) <= times.keys()]
    if not compared or not any(own.observed.any() for own in times.values()):
        return None
    note = left_out([name for name in everything if name not in times], "fewer than two runs")
    if all(own.known for own in times.values()):
        found = same_in_all({name: own.ln for name, own in times.items()}, SAME_TIME, "in ln(tokens)", compared)
        return Finding(found.verdict, found.found + note, found.n, found.needs)
    p = dict(zip(compared, holm([_differ(times, pair) for pair in compared]), strict=True))
    pair = min(p, key=lambda names: p[names])
    never = _counted(times, {name: own.censored for name, own in times.items()}, "ended without the bump; ")
    early = _counted(times, {name: own.early for name, own in times.items()}, "had the bump from the start; ")
    text = f"{never}{early}{' and '.join(pair)} differ by more than 1.25 times with p = "
    n = sum(len(own.ln) for own in times.values())
    verdict = "contradicted" if p[pair] <= 0.05 else "cannot tell"
    return Finding(verdict, f"{text}{p[pair]:.2g}{note}", n, _NEEDS if verdict == "cannot tell" else "")


def _times(study: Evidence, cell: str) -> _Times:
    rows: pd.DataFrame = study.times().loc[study.cells.runs(cell)].query("state != 'undefined'")
    tokens = rows["estimate"].fillna(rows["low"]).to_numpy(np.float64)
    ln = np.where(rows["state"] == "before", -np.inf, np.log(np.maximum(tokens, 1.0)))
    return _Times(ln, np.asarray(rows["state"] != "after"))


def _counted(times: Mapping[str, _Times], counts: Mapping[str, int], what: str) -> str:
    runs = [f"{count} of {len(times[name].ln)} runs of {name}" for name, count in counts.items() if count]
    return f"{', '.join(runs)} {what}" if runs else ""


def _differ(times: Mapping[str, _Times], pair: Pair) -> float:
    one, other = (times[name] for name in pair)
    if one.known and other.known:
        return compare_pairs({name: times[name].ln for name in pair}, SAME_TIME)[0].p_differ
    return min(p_beyond(one, other), p_beyond(other, one))


def p_beyond(one: _Times, other: _Times) -> float:
    """Of the hypothesis that `other` is later than `one` by no more than a factor of 1.25.

    The times of `one` are moved by the factor and both are followed up to the first moment at which a run was lost from
    sight; were the hypothesis true at its limit, runs could then change places, which the exact log-rank test asks. A
    run that had the bump from the start stays before all others. Two-sided p, so that both directions may be looked at.
    """
    from scipy.stats import rankdata

    end = min(sample.ln[~sample.observed].min(initial=np.inf) for sample in (one, other))
    ln = np.concatenate([one.ln + SAME_TIME, other.ln])
    observed = np.concatenate([one.observed, other.observed]) & (ln <= end)
    scores = logrank_scores(rankdata(np.minimum(ln, end)), observed)  # ranks, since −∞ is no time
    first, second = scores[: len(one.ln)], scores[len(one.ln) :]
    return two_groups(first, second).p if second.mean() > first.mean() else 1.0


def left_out(cells: Sequence[str], why: str) -> str:
    """A note that names cells which were not compared."""
    return f"; left out for {why}: {', '.join(cells)}" if cells else ""
