"""Claims about what treatments do to the bump: smeared keys, clamps and other sublayers (O22, Ho26)."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from induction_bump.linking.claims.claim import LEVEL, Finding, claim, within
from induction_bump.linking.claims.evidence import Evidence, mean_interval
from induction_bump.linking.claims.sameness import SAME_TIME, left_out, same_in_all, same_times
from induction_bump.linking.claims.wording import number
from induction_bump.linking.treatments import Effect, Interval
from induction_bump.records.cells import TREATMENTS

Array = npt.NDArray[np.float64]
TOGETHER = 0.1
"""Difference in ln(tokens) within which two events are moved alike, and beyond which one is moved."""


@claim("O22", "with smeared keys, two layers go through the change earlier")
def smeared_keys_bring_it_forward(study: Evidence) -> Finding | None:
    """Time against the same models with plain keys: exact test over seeds, corrected for the study's comparisons."""
    for effect in study.effects:
        differ = _differing(study, effect)
        if differ == {"model.smeared_keys"} and study.layers(study.cells.runs(effect.cell)[0]) > 1 and effect.test:
            ratio = _ratio("times the tokens", effect.ratio, effect.ratio_low, effect.ratio_high, effect.interval)
            return _is_earlier(effect, ratio)
    return None


def _is_earlier(effect: Effect, ratio: str) -> Finding:
    """The verdict on a claim that a treatment brings the bump forward; `ratio` tells by how much, in words."""
    assert effect.test is not None, "only effects with a test are shown"
    found = f"{ratio}, p = {effect.p_holm:.2g}, smallest possible {effect.test.smallest:.2g}"
    n = effect.n + effect.n_reference
    if effect.direction == "cannot tell":
        return Finding("cannot tell", found, n, f"{effect.seeds_needed or 'more'} seeds a model")
    return Finding("supported" if effect.direction == "earlier" else "contradicted", found, n)


def _differing(study: Evidence, effect: Effect) -> set[str]:
    """Settings in which a cell differs from its reference."""
    settings, other = study.cells.settings(effect.cell), study.cells.settings(effect.reference)
    return {key for key, value in settings.items() if value != other[key]}


def _ratio(what: str, ratio: float, low: float, high: float, interval: Interval | None) -> str:
    """A ratio with its interval, whose ends may lie beyond what was trained, and of which kind that is."""
    value, *between = (number(each, ".2f") for each in (ratio, low, high))
    return f"{value} {what}" + (f" [{', '.join(between)}] ({interval})" if interval else "")


def _inverse(ratio: float) -> float:
    """Of a ratio that may be 0 or ∞."""
    return np.inf if ratio == 0 else 1 / ratio


@claim("Ho26", "treatments shift the bump and do not reshape it")
def treatments_do_not_reshape(study: Evidence) -> Finding | None:
    """ln(end / onset) of the change of the ICL score is the same within ±ln 1.25 with and without each treatment (two
    one-sided tests over seeds), corrected for all treatments where one differs; the one that is least like counts.
    """
    pairs = [(e.reference, e.cell) for e in study.effects if _differing(study, e) <= TREATMENTS.keys()]
    widths = {name: study.ramp("width", study.cells.runs(name)) for name in dict.fromkeys(n for p in pairs for n in p)}
    enough = {name: values for name, values in widths.items() if len(values) > 1}
    compared = [pair for pair in pairs if set(pair) <= enough.keys()]
    if not compared:
        return None
    used = {name: enough[name] for name in dict.fromkeys(n for p in compared for n in p)}
    found = same_in_all(used, SAME_TIME, "in ln(end / onset)", compared)
    note = left_out([name for name in widths if name not in enough], "fewer than two located changes")
    return Finding(found.verdict, found.found + note, found.n, found.needs)


@dataclass(frozen=True)
class _Moved:
    """How far a treatment moves the heads and in-context learning, over runs in pairs of equal seeds."""

    cell: str
    runs: frozenset[str]
    heads: Array
    icl: Array
    """ln of the times' ratio, one a pair in which all times are known."""
    low: Array
    high: Array
    """Bounds on the difference ICL − heads, one a pair."""

    def interval(self, level: float) -> tuple[float, float]:
        """What seeds and brackets leave open of the mean difference."""
        low = mean_interval(self.low, level)[1] if np.isfinite(self.low).all() else -np.inf
        high = mean_interval(self.high, level)[2] if np.isfinite(self.high).all() else np.inf
        return low, high


@claim("O22", "treatments move the heads and in-context learning together")
def moved_together(study: Evidence) -> Finding | None:
    """For each treatment of the model, the 90 % interval of ln(ratio of times of ICL) − ln(ratio of times of prefix
    matching), over pairs of runs with equal seeds and with all that brackets leave open, lies within ±0.1, and one
    treatment moves either by more; contradicted where it lies outside for one, at 0.05 divided by their number.
    """
    treatments = [e for e in study.effects if all(key.startswith("model.") for key in _differing(study, e))]
    moved = [each for effect in treatments if (each := _moved(study, effect)) is not None]
    if not moved:
        return None
    verdicts = {each.cell: within(*each.interval(LEVEL), -TOGETHER, TOGETHER) for each in moved}
    strict = 1 - (1 - LEVEL) / len(moved)
    against = {each.cell for each in moved if within(*each.interval(strict), -TOGETHER, TOGETHER) == "contradicted"}
    order = ("contradicted", "cannot tell", "supported")
    worst = min(
        moved, key=lambda e: (e.cell not in against, order.index(verdicts[e.cell]), -max(map(abs, e.interval(LEVEL))))
    )
    low, high = (number(end, "+.2f") for end in worst.interval(LEVEL))
    which = f"of {len(moved)} compared, least together with " if len(moved) > 1 else ""
    found = (
        f"{which}{worst.cell}: heads at {_mean_ratio(worst.heads)}, ICL at {_mean_ratio(worst.icl)}; ln(tokens) moved "
        f"differ by [{low}, {high}], against ±{TOGETHER:g}"
    )
    compared = {each.cell for each in moved}
    found += left_out([e.cell for e in treatments if e.cell not in compared], "fewer than two pairs with the events")
    n = len(frozenset.union(*(each.runs for each in moved)))
    if against:
        return Finding("contradicted", found, n)
    if verdicts[worst.cell] != "supported":
        return Finding("cannot tell", found, n, "more seeds, finer snapshots, or runs that all have both")
    if not any(abs(ln.mean()) > TOGETHER for each in moved for ln in (each.heads, each.icl)):
        return Finding("cannot tell", found, n, "a treatment that moves either")
    return Finding("supported", found, n)


def _mean_ratio(ln: Array) -> str:
    """The geometric mean of what pairs say, with its interval where there are two or more."""
    ratio, low, high = map(float, np.exp(mean_interval(ln, 0.95)) if len(ln) else (np.nan,) * 3)
    return _ratio("times the tokens", ratio, low, high, "95 %" if len(ln) > 1 else None)


def _moved(study: Evidence, effect: Effect) -> _Moved | None:
    """None where a cell has neither event in any run, and for fewer than two pairs. What is not known of a run that has
    neither, while its pair has one, leaves the pair open.
    """
    lags = study.lags.query("first == 'prefix_matching' and second == 'icl'")
    by_source = {source: lags.query("source == @source").set_index("run_id") for source in ("change", "event")}
    source = "change" if set(by_source["event"].index) <= set(by_source["change"].index) else "event"
    one, other = (_by_seed(study, by_source[source], cell) for cell in (effect.cell, effect.reference))
    known, other_known = (rows.drop(columns="run_id").notna().any(axis=1) for rows in (one, other))
    if not known.any() or not other_known.any():
        return None
    seeds = [seed for seed in one.index if seed in other.index]
    either = known.loc[seeds] | other_known.loc[seeds]
    seeds = [seed for seed in seeds if either[seed]]
    if len(seeds) < 2:
        return None
    one, other = one.loc[seeds], other.loc[seeds]
    shifts = np.array([(one[name] - other[name]).to_numpy(np.float64) for name in ("prefix_matching", "icl")])
    heads, icl = shifts[:, np.isfinite(shifts).all(0)]
    with np.errstate(invalid="ignore"):  # ∞ − ∞ where neither run bounds it
        low, high = (
            (one[f"log_ratio_{end}"] - other[f"log_ratio_{opposite}"]).to_numpy(np.float64)
            for end, opposite in (("low", "high"), ("high", "low"))
        )
    return _Moved(effect.cell, frozenset(one["run_id"]) | frozenset(other["run_id"]), heads, icl, low, high)


def _by_seed(study: Evidence, lags: pd.DataFrame, cell: str) -> pd.DataFrame:
    """Bounds on ln(ICL / prefix matching) and ln(tokens) of both events, by the seed of each run of a cell; NaN in runs
    without either. Beside them its run_id.
    """
    runs = study.cells.runs(cell)
    rows = lags.reindex(runs)[["log_ratio_low", "log_ratio_high"]]
    source = None if lags.empty else lags["source"].iloc[0]
    for name in ("prefix_matching", "icl"):
        rows[name] = np.log(study.times(name, source)["estimate"].reindex(runs))
    return rows.assign(run_id=runs).set_index(study.cells.table.loc[runs, "seed"])


@claim("Ho26", "a first-layer head held to the previous token brings the bump forward (there 1.75 times)")
def clamp_brings_it_forward(study: Evidence) -> Finding | None:
    """Time against the same models without a clamp: exact test over seeds, corrected for the study's comparisons."""
    for effect in study.effects:
        if effect.test and _pulled_to_the_previous(study, effect):
            earlier, low, high = map(_inverse, (effect.ratio, effect.ratio_high, effect.ratio_low))
            return _is_earlier(effect, _ratio("times earlier", earlier, low, high, effect.interval))
    return None


def _pulled_to_the_previous(study: Evidence, effect: Effect) -> bool:
    """Whether an effect is that of heads of the first layer held to the previous token, and of nothing else."""
    held = {(clamp["layer"], clamp["kind"]) for clamp in study.clamps(study.cells.runs(effect.cell)[0])}
    reference_held = study.clamps(study.cells.runs(effect.reference)[0])
    return held == {(0, "previous")} and not reference_held and _differing(study, effect) == {"model.clamps"}


@claim("Ho26", "the same hold on another token does not move the bump")
def other_clamps_do_not(study: Evidence) -> Finding | None:
    """Times with a hold on the token before the previous one, on the first token, and with no hold are equivalent
    within a factor of 1.25, in models that differ in nothing else; where runs ended without the bump or had it from
    the start, they may differ (exact log-rank test) but cannot be told to be the same. Corrected for all pairs where
    they differ.
    """
    if "model.clamps" not in study.cells.varied:
        return None
    kinds = {name: {str(c["kind"]) for c in study.clamps(study.cells.runs(name)[0])} for name in study.cells.names}
    held = [name for name in study.cells.names if kinds[name] <= {"second_previous", "first"}]
    beside = {
        name: {key: value for key, value in study.cells.settings(name).items() if key != "model.clamps"}
        for name in held
    }
    pairs = [(one, other) for one, other in combinations(held, 2) if beside[one] == beside[other]]
    return same_times(study, dict.fromkeys(name for pair in pairs for name in pair), pairs)
