"""Claims about what treatments do to the bump: smeared keys, clamps and other sublayers (O22, Ho26)."""

from collections.abc import Callable
from itertools import combinations

import numpy as np

from induction_bump.linking.claims.claim import Finding, claim
from induction_bump.linking.claims.evidence import Evidence
from induction_bump.linking.claims.sameness import SAME_TIME, left_out, same_in_all, same_times
from induction_bump.linking.equivalence import seeds_for_difference
from induction_bump.linking.treatments import Effect
from induction_bump.records.cells import TREATMENTS


@claim("O22", "with smeared keys, two layers go through the change earlier")
def smeared_keys_bring_it_forward(study: Evidence) -> Finding | None:
    """Time against the same models with plain keys: exact test over seeds, corrected for the study's comparisons."""
    for effect in study.effects:
        differ = _differing(study, effect)
        if differ == {"model.smeared_keys"} and study.layers(study.cells.runs(effect.cell)[0]) > 1 and effect.test:
            shown = _shown(effect.ratio, effect.ratio_low, effect.ratio_high)
            found = f"{shown} times the tokens, {_tested(effect)}"
            n = effect.n + effect.n_reference
            if effect.direction == "cannot tell":
                return Finding("cannot tell", found, n, f"{effect.seeds_needed or 'more'} seeds a model")
            return Finding("supported" if effect.direction == "earlier" else "contradicted", found, n)
    return None


def _differing(study: Evidence, effect: Effect) -> set[str]:
    """Settings in which a cell differs from its reference."""
    settings, other = study.cells.settings(effect.cell), study.cells.settings(effect.reference)
    return {key for key, value in settings.items() if value != other[key]}


def _shown(value: float, low: float, high: float) -> str:
    """A ratio with its interval, whose ends may lie beyond what was trained."""
    middle, *ends = ("–" if np.isnan(x) else "∞" if np.isinf(x) else f"{x:.2f}" for x in (value, low, high))
    return f"{middle} [{', '.join(ends)}]"


def _tested(effect: Effect) -> str:
    assert effect.test is not None, "only effects with a test are shown"
    return f"p = {effect.p_holm:.2g}, smallest possible {effect.test.smallest:.2g}"


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


@claim("Ho26", "a first-layer head held to the previous token brings the bump forward (there 1.75 times)")
def clamp_brings_it_forward(study: Evidence) -> Finding | None:
    """Time against no clamp: exact test over seeds, corrected for the study's comparisons."""
    effect = _of_clamp(study, lambda kinds: kinds == {"previous"})
    if effect is None or effect.test is None:
        return None
    shown = _shown(*map(_inverse, (effect.ratio, effect.ratio_high, effect.ratio_low)))
    found = f"{shown} times earlier, {_tested(effect)}"
    n = effect.n + effect.n_reference
    if effect.direction == "cannot tell":
        spread = abs(np.log(effect.ratio) / effect.d) if np.isfinite(effect.d) and effect.d else np.nan
        seeds = seeds_for_difference(np.log(1.75), spread, paired=effect.paired) if np.isfinite(spread) else None
        return Finding("cannot tell", found, n, f"{seeds or 'more'} seeds to find a factor of 1.75")
    return Finding("supported" if effect.direction == "earlier" else "contradicted", found, n)


@claim("Ho26", "the same hold on another token does not move the bump")
def other_clamps_do_not(study: Evidence) -> Finding | None:
    """Times with a hold on the token before the previous one, on the first token, and with no hold are equivalent
    within a factor of 1.25, in models that differ in nothing else; where runs ended without the bump, they may differ
    (exact log-rank test) but cannot be told to be the same. Corrected for all pairs where they differ.
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


def _of_clamp(study: Evidence, wanted: Callable[[set[str]], bool]) -> Effect | None:
    for effect in study.effects:
        if wanted({str(clamp["kind"]) for clamp in study.clamps(study.cells.runs(effect.cell)[0])}):
            return effect
    return None
