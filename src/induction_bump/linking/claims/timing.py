"""Claims about when it happens: laws, spread over seeds and precursors (A25, H24, Ho26)."""

from collections.abc import Collection

import numpy as np
import pandas as pd

from induction_bump.linking.claims.claim import Finding, claim, joint, not_comparable, over_cells, share_of_runs, within
from induction_bump.linking.claims.evidence import Evidence, mean_interval
from induction_bump.linking.claims.sameness import SAME_RATIO, left_out, same_times
from induction_bump.linking.claims.wording import ends, number
from induction_bump.linking.correlations import within_cells
from induction_bump.linking.expected import expected_tokens
from induction_bump.linking.law import NoFitError, PowerLaw, fit_power_law

BATCH, CONTEXT = "training.batch_sequences", "data.context"
_LANGUAGE = "the figure depends on the data, and is of another synthetic language"


def power_law(study: Evidence, names: Collection[str] = (BATCH, CONTEXT)) -> PowerLaw | None:
    """The law of a study's times in settings that vary in it; None where they do not, or do not determine it."""
    if not set(names) <= set(study.cells.varied):
        return None
    times = study.times().query("state != 'undefined'")
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
    verdict = joint(within(slope.low, slope.high, 0.4, 0.6) for slope in exponents)
    shown = [f"{number(slope.value, '.2f')} {ends(slope.low, slope.high, '.2f')}" for slope in exponents]
    return Finding(
        verdict,
        f"exponents {shown[0]} of the batch and {shown[1]} of the context",
        law.n,
        "more seeds, or settings further apart" if verdict == "cannot tell" else "",
    )


@claim("A25", "the bump comes after 10^5.7 · √(batch · context) tokens")
def time_by_the_law(study: Evidence) -> Finding | None:
    """The 90 % interval of the mean ratio of times to the law lies within 0.8 … 1.25, in each cell of ordinary models
    (plain, two attention layers or more); a cell with runs of which only a bound is known, since they ended without the
    bump or had it from the start, contradicts where most are known to be later than 1.25 times the law, or earlier than
    the law by that. The constant compares on text alone.
    """
    settings = zip(study.runs[BATCH], study.runs[CONTEXT], strict=True)
    expected = pd.Series([expected_tokens(*setting) for setting in settings], study.runs.index)
    rows = study.times().query("state != 'undefined'")

    def cell(runs: list[str], level: float) -> Finding | None:
        own, law = rows.loc[runs], expected.loc[runs]
        known = (own["estimate"] / law).dropna().to_numpy(np.float64)
        if not len(known) and not study.on_text():
            return None
        mean, low, high = np.exp(mean_interval(np.log(known), level)) if len(known) else (np.nan,) * 3
        found = "no time is known"
        if len(known):
            found = f"{mean:.2f} times that {ends(low, high, '.2f')}{_of_those(len(known), len(runs))}"
        sides = ((own["state"] == "after", "ended without it"), (own["state"] == "before", "had it from the start"))
        found += "".join(f"; {those.sum()} of {len(runs)} runs {what}" for those, what in sides if those.any())
        if not study.on_text():
            return not_comparable(found, len(runs), "the constant is of natural text")
        if len(known) == len(runs):
            verdict = within(float(low), float(high), 1 / SAME_RATIO, SAME_RATIO)
            return Finding(verdict, found, len(runs), "more seeds" if verdict == "cannot tell" else "")
        beyond = (own["low"] > SAME_RATIO * law, own["high"] < law / SAME_RATIO)
        shares = [share_of_runs(those.tolist(), "are", level=level) for those in beyond]
        verdict = "contradicted" if any(share and share.verdict == "supported" for share in shares) else "cannot tell"
        needs = "trainings in which all runs have it, after the first snapshot" if verdict == "cannot tell" else ""
        return Finding(verdict, found, len(runs), needs)

    return over_cells(study, (r for r in map(str, rows.index) if study.ordinary(r)), cell)


@claim("A25", "the time of the bump does not depend on the model's size")
def time_does_not_depend_on_size(study: Evidence) -> Finding | None:
    """Times of every two sizes of plain models with two attention layers or more are equivalent within a factor of 1.25
    (two one-sided tests over seeds of ln(tokens)), corrected for all pairs where they differ; where runs ended without
    the bump or had it from the start, sizes may differ (exact log-rank test) but cannot be told to be the same.
    """
    found = same_times(study, study.sizes) if len(study.sizes) > 1 else None
    if found is None:
        return None
    small = [name for name in study.cells.names if study.plain(study.cells.runs(name)[0]) and name not in study.sizes]
    note = left_out(small, "fewer than two attention layers, or nothing to copy")
    return Finding(found.verdict, found.found + note, found.n, found.needs)


@claim("A25", "what can be copied in the data decides whether induction heads form")
def repetition_decides(study: Evidence) -> Finding | None:
    """Each run without repeats ends without the prefix-matching event, and each run of the largest share of repeats has
    it.
    """
    key, event = "data.corpus.copy_share", "prefix_matching"
    if key not in study.cells.varied:
        return None
    ended = study.having(event) + study.without(event)
    shares = {run_id: float(share) for run_id, share in study.setting(key).items() if run_id in ended}
    most = max(shares.values(), default=0.0)
    none, much = ([r for r, share in shares.items() if share == wanted] for wanted in (0.0, most))
    without = share_of_runs([r in study.without(event) for r in none], "without repeats have none")
    having = share_of_runs([r in study.having(event) for r in much], f"at a share of {most:g} have them")
    if without is None or having is None:
        return None
    verdict = joint([without.verdict, having.verdict])
    needs = without.needs or having.needs if verdict == "cannot tell" else ""
    return Finding(verdict, f"{without.found}; {having.found}", len(none) + len(much), needs)


@claim("Ho26", "over seeds, the time of the bump has a coefficient of variation of 5.6 % and max / min of 1.31")
def spread_over_seeds(study: Evidence) -> Finding | None:
    """Shown for one cell (the plainest, or the one with the most bumps), as the spread of ln(tokens) of a log-normal
    fitted to brackets, or to placed times with their errors, with its 90 % interval by profile likelihood; max / min is
    that of the estimates, errors included. Another language's figure does not compare.
    """
    located = set(study.located())
    counts = {name: sum(r in located for r in study.cells.runs(name)) for name in study.cells.names}
    name, plainest = max(counts, key=lambda cell: counts[cell]), study.cells.plainest()
    name = plainest if counts[plainest] >= _FEWEST else name
    if counts[name] < _FEWEST:
        return None
    times = study.times().loc[study.cells.runs(name)].query("state != 'undefined'")
    try:
        law = fit_power_law(times, {})
        low, high = law.sigma_interval
    except NoFitError:
        return None
    tokens = times["estimate"].dropna()
    extremes = f"{tokens.max() / tokens.min():.2f}{_of_those(len(tokens), law.n)}"
    ends_at = number(high, ".1%")
    spread = f"{number(law.sigma, '.1%')} [{number(low, '.1%')}, {ends_at}]" if low else f"at most {ends_at}"
    found = f"{spread} and {extremes} over {law.n} seeds of {name}"
    return not_comparable(found, law.n, _LANGUAGE)


def _of_those(known: int, runs: int) -> str:
    """A note on a figure that runs without an estimate have no part in."""
    return f" (of the {known} with an estimate)" if 1 < known < runs else ""


_FEWEST, _FEWEST_RANKED = 3, 6


@claim("Ho26", "the ramp lasts about 2 % of the time to it")
def length_of_the_ramp(study: Evidence) -> Finding | None:
    """Shown with the 90 % interval of the mean over the located changes of the ICL score of plain runs, in one cell;
    another language's figure does not compare.
    """

    def cell(runs: list[str], level: float) -> Finding | None:
        own = study.ramps.loc[runs]
        lasts = ((own["end"] - own["onset"]) / own["midpoint"]).to_numpy(np.float64)
        mean, low, high = mean_interval(lasts, level)
        return not_comparable(f"{number(mean, '.0%')} {ends(low, high, '.0%')}", len(runs), _LANGUAGE)

    return over_cells(study, (r for r in map(str, study.ramps.index) if study.plain(r)), cell)


@claim("H24", "previous-token heads form first, induction heads after them")
def previous_token_heads_come_first(study: Evidence) -> Finding | None:
    """In each plain run the prefix-matching event comes after the previous-token event; what brackets leave open may be
    either.
    """
    return _order(study, "previous_token", "prefix_matching")


@claim("Ho26", "a previous-token head announces the bump")
def previous_token_head_announces_it(study: Evidence) -> Finding | None:
    """In each plain run the ICL event comes after the previous-token event; what brackets leave open may be either."""
    return _order(study, "previous_token", "icl")


def _order(study: Evidence, first: str, second: str) -> Finding | None:
    rows = study.lags.query("first == @first and second == @second and source == 'event'")
    rows = rows.loc[[study.plain(str(r)) for r in rows["run_id"]]]
    decided = rows.query("order != 'together'")
    open_ = len(rows) - len(decided)
    return share_of_runs((decided["order"] == "after").tolist(), "have them in this order", undecided=open_)


@claim("Ho26", "over seeds, the previous-token head's time predicts the bump's (Spearman 0.977)")
def precursor_correlation(study: Evidence) -> Finding | None:
    """Rank correlation within cells: supported where its 95 % interval lies above 0.5 and its exact p is at most 0.05
    over at least 6 runs, contradicted where the interval lies below 0.5.
    """
    rows = precursor(study)
    first, second = (rows[name].to_numpy(np.float64) for name in ("previous_token", "icl"))
    found = within_cells(first, second, rows["cell"].tolist()) if len(rows) else None
    if found is None:
        return None
    verdict = within(found.low, found.high, 0.5, 1.0)
    if verdict == "supported" and (found.p > 0.05 or found.n < _FEWEST_RANKED):
        verdict = "cannot tell"
    cells = "one cell" if found.cells == 1 else f"each of {found.cells} cells"
    rho = f"{number(found.rho, '.2f')} {ends(found.low, found.high, '.2f')}"
    text = f"{rho}, p = {found.p:.2g}, within {cells}"
    return Finding(verdict, text, found.n, "more seeds a cell, and finer snapshots" if verdict == "cannot tell" else "")


@claim("Ho26", "the bump comes after 1.19 times the tokens of the previous-token head")
def precursor_lead(study: Evidence) -> Finding | None:
    """Shown with the 90 % interval of the geometric mean over plain runs, in one cell; another language's figure does
    not compare.
    """
    rows = precursor(study).set_index("run_id")
    ratios = rows["icl"] / rows["previous_token"]

    def cell(runs: list[str], level: float) -> Finding | None:
        ratio, low, high = np.exp(mean_interval(np.log(ratios.loc[runs].to_numpy(np.float64)), level))
        return not_comparable(f"{ratio:.2f} {ends(low, high, '.2f')}", len(runs), _LANGUAGE)

    return over_cells(study, map(str, rows.index), cell)


def precursor(study: Evidence) -> pd.DataFrame:
    """Runs with plain keys and both times: run_id, cell, previous_token, icl (events, in tokens)."""
    names = ("previous_token", "icl")
    rows = pd.DataFrame({name: study.times(name, "event")["estimate"] for name in names}).dropna().reset_index()
    rows = rows.loc[[study.plain(str(r)) for r in rows["run_id"]]]
    return rows.assign(cell=study.cells.table["cell"].reindex(rows["run_id"]).to_numpy())
