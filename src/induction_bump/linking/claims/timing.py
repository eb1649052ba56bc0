"""Claims about when it happens: laws, spread over seeds, precursors and treatments (A25, H24, Ho26)."""

from collections.abc import Callable, Collection

import numpy as np
import pandas as pd

from induction_bump.linking.claims.claim import Finding, claim, left_open, not_comparable, share_of_runs, within
from induction_bump.linking.claims.evidence import Evidence, mean_interval
from induction_bump.linking.claims.in_context import same_in_all
from induction_bump.linking.correlations import within_cells
from induction_bump.linking.equivalence import seeds_for_difference
from induction_bump.linking.law import NoFitError, PowerLaw, fit_power_law
from induction_bump.linking.times import event_times
from induction_bump.linking.treatments import Effect
from induction_bump.records.cells import TREATMENTS

BATCH, CONTEXT = "training.batch_sequences", "data.context"
CONSTANT = 10**5.7
"""Tokens of A25's law where batch · context is 1."""
SAME_TIME = 1.25
"""Ratio within which times count as the same."""
_LANGUAGE = "the figure depends on the data, and is of another synthetic language"


def power_law(study: Evidence, names: Collection[str] = (BATCH, CONTEXT)) -> PowerLaw | None:
    """The law of a study's times in settings that vary in it; None where they do not, or do not determine it."""
    if not set(names) <= set(study.cells.varied):
        return None
    times = study.times().query("state in ['located', 'after']")
    x = {name: study.runs.loc[times.index, name].to_numpy(np.float64) for name in names}
    try:
        return fit_power_law(times, x)
    except NoFitError:
        return None


@claim("A25", "tokens to the bump grow with the root of batch size and of context")
def time_grows_with_the_root(study: Evidence) -> Finding | None:
    """Both exponents of an interval-censored fit have their 95 % intervals within 0.4 … 0.6; contradicted where one
    lies outside.
    """
    law = power_law(study)
    if law is None:
        return None
    exponents = [law.exponents[name] for name in (BATCH, CONTEXT)]
    verdicts = [within(slope.low, slope.high, 0.4, 0.6) for slope in exponents]
    verdict = "contradicted" if "contradicted" in verdicts else "supported"
    verdict = "cannot tell" if verdict == "supported" and "cannot tell" in verdicts else verdict
    shown = [f"{slope.value:.2f} [{slope.low:.2f}, {slope.high:.2f}]" for slope in exponents]
    return Finding(
        verdict,
        f"exponents {shown[0]} of the batch and {shown[1]} of the context",
        law.n,
        "more seeds, or settings further apart" if verdict == "cannot tell" else "",
    )


@claim("A25", "the bump comes after 10^5.7 · √(batch · context) tokens")
def time_by_the_law(study: Evidence) -> Finding | None:
    """The 90 % interval of the mean ratio of times to the law lies within 0.8 … 1.25; the constant compares on text
    alone.
    """
    runs = study.located()
    if not runs:
        return None
    expected = CONSTANT * np.sqrt(study.runs.loc[runs, BATCH] * study.runs.loc[runs, CONTEXT]).to_numpy(np.float64)
    mean, low, high = np.exp(mean_interval(np.log(study.tokens(runs) / expected)))
    found = f"{mean:.2f} times that [{low:.2f}, {high:.2f}]"
    if not study.on_text():
        return not_comparable(found, len(runs), "the constant is of natural text")
    verdict = within(float(low), float(high), 1 / SAME_TIME, SAME_TIME)
    return Finding(verdict, found, len(runs), "more seeds" if verdict == "cannot tell" else "")


@claim("A25", "the time of the bump does not depend on the model's size")
def time_does_not_depend_on_size(study: Evidence) -> Finding | None:
    """Times of every two sizes that have it are equivalent within a factor of 1.25 (two one-sided tests over seeds of
    ln(tokens)).
    """
    groups = {name: np.log(study.tokens(runs)) for name, runs in study.sizes.items()}
    return same_in_all(groups, float(np.log(SAME_TIME)), "in ln(tokens)") if len(groups) > 1 else None


@claim("A25", "what can be copied in the data decides whether induction heads form")
def repetition_decides(study: Evidence) -> Finding | None:
    """Each run without repeats ends without the prefix-matching event, and each run of the largest share of repeats has
    it.
    """
    key, event = "data.corpus.copy_share", "prefix_matching"
    if key not in study.cells.varied:
        return None
    ended = study.located(event) + study.without(event)
    shares = {run_id: float(share) for run_id, share in study.setting(key).items() if run_id in ended}
    most = max(shares.values(), default=0.0)
    none, much = ([r for r, share in shares.items() if share == wanted] for wanted in (0.0, most))
    without = share_of_runs([r in study.without(event) for r in none], "without repeats have none")
    having = share_of_runs([r in study.located(event) for r in much], f"at a share of {most:g} have them")
    if without is None or having is None:
        return None
    verdicts = {without.verdict, having.verdict}
    verdict = "contradicted" if "contradicted" in verdicts else without.verdict if len(verdicts) == 1 else "cannot tell"
    needs = without.needs or having.needs if verdict == "cannot tell" else ""
    return Finding(verdict, f"{without.found}; {having.found}", len(none) + len(much), needs)


@claim("Ho26", "over seeds, the time of the bump has a coefficient of variation of 5.6 % and max / min of 1.31")
def spread_over_seeds(study: Evidence) -> Finding | None:
    """Shown for one cell (the plainest, or the one with the most bumps), as the spread of ln(tokens) of a log-normal
    fitted to the brackets, with its χ² interval; another language's figure does not compare.
    """
    from scipy.stats import chi2

    located = set(study.located())
    counts = {name: sum(r in located for r in study.cells.runs(name)) for name in study.cells.names}
    name, plainest = max(counts, key=lambda cell: counts[cell]), study.cells.plainest()
    name = plainest if counts[plainest] >= _FEWEST else name
    if counts[name] < _FEWEST:
        return None
    times = study.times().loc[study.cells.runs(name)].query("state in ['located', 'after']")
    try:
        law = fit_power_law(times, {})
    except NoFitError:
        return None
    low, high = (law.sigma * np.sqrt(law.freedom / chi2.ppf(level, law.freedom)) for level in (0.95, 0.05))
    tokens = times["estimate"].dropna()
    extremes = tokens.max() / tokens.min()
    found = f"{law.sigma:.1%} [{low:.1%}, {high:.1%}] and {extremes:.2f} over {law.n} seeds of {name}"
    return not_comparable(found, law.n, _LANGUAGE)


_FEWEST = 3


@claim("Ho26", "the ramp lasts about 2 % of the time to it")
def length_of_the_ramp(study: Evidence) -> Finding | None:
    """Shown for the located changes of the ICL score; another language's figure does not compare."""
    windows = [window for run_id in study.runs.index if (window := study.window(str(run_id)))]
    if not windows:
        return None
    mean, low, high = mean_interval(np.array([(end - onset) / np.sqrt(onset * end) for onset, end in windows]))
    return not_comparable(f"{mean:.0%} [{low:.0%}, {high:.0%}]", len(windows), _LANGUAGE)


@claim("Ho26", "treatments shift the bump and do not reshape it")
def treatments_do_not_reshape(study: Evidence) -> Finding | None:
    """ln(end / onset) of the change of the ICL score is the same within ±ln 1.25 with and without each treatment (two
    one-sided tests over seeds); the treatment that is least like counts.
    """
    findings = []
    for effect in study.effects:
        settings, other = study.cells.settings(effect.cell), study.cells.settings(effect.reference)
        if {key for key, value in settings.items() if value != other[key]} <= TREATMENTS.keys():
            found = {name: _widths(study, name) for name in (effect.cell, effect.reference)}
            if min(map(len, found.values())) > 1:
                findings.append(same_in_all(found, float(np.log(SAME_TIME)), "in ln(end / onset)"))
    worst = ("contradicted", "cannot tell", "supported")
    return min(findings, key=lambda finding: worst.index(finding.verdict), default=None)


def _widths(study: Evidence, cell: str) -> np.ndarray:
    windows = [window for run_id in study.cells.runs(cell) if (window := study.window(run_id)) and window[0] > 0]
    return np.array([np.log(end / onset) for onset, end in windows])


@claim("Ho26", "a first-layer head held to the previous token brings the bump forward (there 1.75 times)")
def clamp_brings_it_forward(study: Evidence) -> Finding | None:
    """Time against no clamp: exact test over seeds, corrected for the study's comparisons."""
    effect = _of_clamp(study, lambda kinds: kinds == {"previous"})
    if effect is None or effect.test is None:
        return None
    forward, interval = 1 / effect.ratio, (1 / effect.ratio_high, 1 / effect.ratio_low)
    found = (
        f"{forward:.2f} times earlier [{interval[0]:.2f}, {interval[1]:.2f}], p = {effect.p_holm:.2g}, "
        f"smallest possible {effect.test.smallest:.2g}"
    )
    n = effect.n + effect.n_reference
    if effect.direction == "cannot tell":
        spread = abs(np.log(effect.ratio) / effect.d) if effect.d else np.nan
        seeds = seeds_for_difference(np.log(1.75), spread, paired=effect.paired) if np.isfinite(spread) else None
        return Finding("cannot tell", found, n, f"{seeds or 'more'} seeds to find a factor of 1.75")
    return Finding("supported" if effect.direction == "earlier" else "contradicted", found, n)


@claim("Ho26", "the same hold on another token does not move the bump")
def other_clamps_do_not(study: Evidence) -> Finding | None:
    """Times with a hold on the token before the previous one, on the first token, and with no hold are equivalent
    within a factor of 1.25.
    """
    located = set(study.located())
    groups = {}
    for name in study.cells.names:
        runs = study.cells.runs(name)
        kinds = {str(clamp["kind"]) for clamp in study.clamps(runs[0])}
        if "model.clamps" in study.cells.varied and kinds <= {"second_previous", "first"}:
            groups[name] = np.log(study.tokens([r for r in runs if r in located]))
    groups = {name: values for name, values in groups.items() if len(values) > 1}
    return same_in_all(groups, float(np.log(SAME_TIME)), "in ln(tokens)") if len(groups) > 1 else None


def _of_clamp(study: Evidence, wanted: Callable[[set[str]], bool]) -> Effect | None:
    for effect in study.effects:
        if wanted({str(clamp["kind"]) for clamp in study.clamps(study.cells.runs(effect.cell)[0])}):
            return effect
    return None


@claim("H24", "previous-token heads form first, induction heads after them")
def previous_token_heads_come_first(study: Evidence) -> Finding | None:
    """In each run in which brackets tell them apart, the prefix-matching event comes after the previous-token event."""
    return _order(study, "previous_token", "prefix_matching")


@claim("Ho26", "a previous-token head announces the bump")
def previous_token_head_announces_it(study: Evidence) -> Finding | None:
    """In each run in which brackets tell them apart, the ICL event comes after the previous-token event."""
    return _order(study, "previous_token", "icl")


def _order(study: Evidence, first: str, second: str) -> Finding | None:
    rows = study.lags.query("first == @first and second == @second and source == 'event'")
    rows = rows.loc[[study.plain(str(r)) for r in rows["run_id"]]]
    decided = rows.query("order != 'together'")
    if rows.empty:
        return None
    note = left_open(len(rows) - len(decided))
    found = share_of_runs((decided["order"] == "after").tolist(), "have them in this order", note)
    return found or Finding("cannot tell", note.lstrip("; "), len(rows), "snapshots at a finer interval")


@claim("Ho26", "over seeds, the previous-token head's time predicts the bump's (Spearman 0.977)")
def precursor_correlation(study: Evidence) -> Finding | None:
    """Rank correlation within cells: supported where its 95 % interval lies above 0.5, contradicted where below."""
    rows = precursor(study)
    first, second = (rows[name].to_numpy(np.float64) for name in ("previous_token", "icl"))
    found = within_cells(first, second, rows["cell"].tolist()) if len(rows) else None
    if found is None:
        return None
    verdict = within(found.low, found.high, 0.5, 1.0)
    cells = "one cell" if found.cells == 1 else f"each of {found.cells} cells"
    text = f"{found.rho:.2f} [{found.low:.2f}, {found.high:.2f}], p = {found.p:.2g}, within {cells}"
    return Finding(verdict, text, found.n, "more seeds a cell, and finer snapshots" if verdict == "cannot tell" else "")


@claim("Ho26", "the bump comes after 1.19 times the tokens of the previous-token head")
def precursor_lead(study: Evidence) -> Finding | None:
    """Shown with the interval of the geometric mean over runs; another language's figure does not compare."""
    rows = precursor(study)
    if len(rows) < 2:
        return None
    ratio, low, high = np.exp(mean_interval(np.log(np.asarray(rows["icl"] / rows["previous_token"]))))
    return not_comparable(f"{ratio:.2f} [{low:.2f}, {high:.2f}]", len(rows), _LANGUAGE)


def precursor(study: Evidence) -> pd.DataFrame:
    """Runs with plain keys and both times: run_id, cell, previous_token, icl (events, in tokens)."""
    names = ("previous_token", "icl")
    both = [event_times(study.records, name, "event").query("state == 'located'") for name in names]
    rows = both[0][["run_id", "estimate"]].merge(both[1][["run_id", "estimate"]], on="run_id", suffixes=("_a", "_b"))
    rows = rows.rename(columns={"estimate_a": names[0], "estimate_b": names[1]})
    rows = rows.loc[[study.plain(str(r)) for r in rows["run_id"]]]
    return rows.assign(cell=study.cells.table["cell"].reindex(rows["run_id"]).to_numpy())
