"""Claims about in-context learning and its sudden growth (Olsson et al. 2022)."""

from typing import Any

import numpy as np

from induction_bump.linking.claims.claim import Finding, claim, joint, not_comparable, over_cells, share_of_runs, within
from induction_bump.linking.claims.evidence import Evidence, mean_interval
from induction_bump.linking.claims.sameness import left_out, same_in_all
from induction_bump.linking.claims.wording import ends, number

SAME_SCORE = 0.1
"""Nats within which ICL scores count as the same."""
SAME_WINDOW = 1.25
"""Ratio of times within which two events count as one change."""
_TEXT = "the figure depends on the data: real text with a context of at least 500"


@claim("O22", "models of one attention layer do not go through an abrupt change of in-context learning")
def one_layer_has_none(study: Evidence) -> Finding | None:
    """Each plain run of one attention layer has a change of the ICL score that is judged `none` or `gradual`, and none
    that is `abrupt`; where changes were not located, it ends without the ICL event. Undetermined changes are left open.
    """
    quiet = [_quiet(study, r) for r in map(str, study.runs.index) if study.layers(r) == 1 and study.plain(r)]
    decided = [each == "yes" for each in quiet if each in ("yes", "no")]
    return share_of_runs(decided, "end without an abrupt change", undecided=quiet.count("open"))


def _quiet(study: Evidence, run_id: str) -> str:
    """Whether a run is without an abrupt change: `yes`, `no`, `open`, or nothing where that is not known yet."""
    event, change = (study.event(name).get(run_id, {}).get("verdict") for name in ("icl", "icl_change"))
    if change == "abrupt":
        return "no"
    if event == "right_censored":  # it may still come
        return ""
    if change in ("none", "gradual", "undetermined"):
        return "open" if change == "undetermined" else "yes"
    return {"found": "no", "left_censored": "no", "not_found": "yes"}.get(str(event), "")


@claim("O22", "with smeared keys, one attention layer is enough for the change")
def smeared_keys_give_it_to_one_layer(study: Evidence) -> Finding | None:
    """Each run of one attention layer with smeared keys has the ICL event."""
    runs = [r for r in study.having() + study.without() if study.layers(r) == 1 and study.smeared(r)]
    return share_of_runs([r in study.having() for r in runs], "have the change")


@claim("O22", "models of two or more attention layers go through the change")
def two_layers_have_it(study: Evidence) -> Finding | None:
    """Each plain run of at least two attention layers, on data with something to copy, has the ICL event."""
    runs = [r for r in study.having() + study.without() if study.ordinary(r)]
    return share_of_runs([r in study.having() for r in runs], "have the change")


@claim("O22", "the change is abrupt")
def the_change_is_abrupt(study: Evidence) -> Finding | None:
    """Each plain run with the ICL event after its first snapshot, or in which a change of the ICL score was found, has
    the verdict `abrupt`; undetermined changes are left open. The least favourable cell counts.
    """
    changes = study.event("icl_change")

    def cell(runs: list[str], level: float) -> Finding | None:
        verdicts = [changes[r]["verdict"] for r in runs]
        decided = [verdict == "abrupt" for verdict in verdicts if verdict != "undetermined"]
        return share_of_runs(decided, "changed abruptly", undecided=len(verdicts) - len(decided), level=level)

    known = {r for r, row in changes.items() if row["verdict"] != "not_applicable" and study.plain(r)}
    return over_cells(study, known & {*study.located(), *(r for r in known if changes[r]["found"])}, cell)


@claim("O22", "the change shows as a bump in the loss curve")
def the_loss_has_a_bump(study: Evidence) -> Finding | None:
    """In each plain run with the ICL event after its first snapshot the held-out loss is not convex beyond noise; the
    least favourable cell counts.
    """
    told = ("found", "not_found")
    bumps = {r: row["found"] for r, row in study.event("loss_bump").items() if row["verdict"] in told}

    def cell(runs: list[str], level: float) -> Finding | None:
        return share_of_runs([bool(bumps[r]) for r in runs], "have a bump in the loss", level=level)

    return over_cells(study, (r for r in study.located() if r in bumps and study.plain(r)), cell)


@claim("O22", "induction heads form during the change")
def heads_form_with_it(study: Evidence) -> Finding | None:
    """In each plain run that has one of them, the events of prefix matching and ICL lie within a factor of 1.25 in
    tokens; one without the other by then contradicts, and what brackets leave open may be either. The least favourable
    cell counts.
    """
    rows = study.lags.query("first == 'prefix_matching' and second == 'icl' and source == 'event'").set_index("run_id")
    limit = np.log(SAME_WINDOW)

    def cell(runs: list[str], level: float) -> Finding | None:
        own = rows.loc[runs]
        bounds = own[["log_ratio_low", "log_ratio_high"]].to_numpy(np.float64)
        verdicts = [within(low, high, -limit, limit) for low, high in bounds]
        decided = [verdict == "supported" for verdict in verdicts if verdict != "cannot tell"]
        known = own["log_ratio"].dropna().to_numpy(np.float64)
        note = ""
        if len(known):
            mean, low, high = np.exp(mean_interval(known))
            note = f"; ICL at {mean:.2f} times the tokens of prefix matching {ends(low, high, '.2f')}"
        open_ = len(verdicts) - len(decided)
        return share_of_runs(decided, "have both together", note, undecided=open_, level=level)

    return over_cells(study, (r for r in map(str, rows.index) if study.plain(r)), cell)


@claim("O22", "the ICL score is above −0.15 nats before the change and about −0.4 after it")
def score_before_and_after(study: Evidence) -> Finding | None:
    """The 90 % interval of the mean score at the end lies within −0.5 … −0.3 nats, that before the change above −0.15,
    in each cell of plain runs with the change after the first snapshot; text alone compares.
    """

    def cell(runs: list[str], level: float) -> Finding | None:
        before, after = np.array([study.before(r) for r in runs]), study.last("icl_window_score", runs)
        if not len(after):
            return None
        (b, b_low, b_high), (a, a_low, a_high) = mean_interval(before, level), mean_interval(after, level)
        found = (
            f"{number(b, '.2f')} nats before {ends(b_low, b_high, '.2f')}, "
            f"{number(a, '.2f')} at the end {ends(a_low, a_high, '.2f')}"
        )
        if not study.on_text():
            return not_comparable(found, len(runs), _TEXT)
        verdict = joint([within(a_low, a_high, -0.5, -0.3), within(b_low, b_high, -0.15, np.inf)])
        return Finding(verdict, found, len(runs), "more seeds" if verdict == "cannot tell" else "")

    return over_cells(study, (r for r in study.located() if study.plain(r) and np.isfinite(study.before(r))), cell)


@claim("O22", "the ICL score after the change is the same whatever the size")
def same_score_in_all_sizes(study: Evidence) -> Finding | None:
    """Equivalence within ±0.1 nat of every two sizes of plain models with two attention layers or more (two one-sided
    tests over the seeds that have the change), where every run has it; corrected for all pairs where they differ.
    """
    changed = set(study.having())
    having = {name: [r for r in runs if r in changed] for name, runs in study.sizes.items()}
    scores = {name: study.last("icl_window_score", runs) for name, runs in having.items()}
    compared = {name: values for name, values in scores.items() if len(values) > 1}
    if len(compared) < 2:
        return None
    found = same_in_all(compared, SAME_SCORE, "nat")
    missing = [name for name in scores if name not in compared]
    partly = [name for name in compared if len(having[name]) < len(study.sizes[name])]
    note = left_out(missing, "fewer than two runs with the change")
    note += f"; not all runs have it in {', '.join(partly)}" if partly else ""
    if found.verdict == "supported" and note:
        needs = "trainings long enough for all runs to have the change"
        return Finding("cannot tell", found.found + note, found.n, needs)
    return Finding(found.verdict, found.found + note, found.n, found.needs)


def _no_window(study: Evidence) -> Finding | None:
    """For a claim about the change's beginning and end, where none was located."""
    n, needs = len(study.located()), "a located change of the ICL score"
    return Finding("cannot tell", "no beginning and end were located", n, needs) if n else None


@claim("O22", "more than 75 % of the final ICL score forms during the change")
def most_forms_in_the_window(study: Evidence) -> Finding | None:
    """The 90 % interval of the mean share over runs, of those whose score ends at 0.1 nat or more, lies above 0.75 in
    each cell of plain runs.
    """

    def cell(runs: list[str], level: float) -> Finding | None:
        mean, low, high = mean_interval(study.ramp("share", runs), level)
        verdict = within(low, high, 0.75, np.inf)
        needs = "more seeds" if verdict == "cannot tell" else ""
        return Finding(verdict, f"{number(mean, '.0%')} {ends(low, high, '.0%')}", len(runs), needs)

    known = [str(r) for r in study.ramps["share"].dropna().index]
    return over_cells(study, (r for r in known if study.plain(r)), cell) or _no_window(study)


@claim("O22", "the order of sizes by d loss / d ln tokens inverts at the change")
def order_of_sizes_inverts(study: Evidence) -> Finding | None:
    """Kendall's τ between parameters and slope of the loss has opposite signs before and after, each with p ≤ 0.05 over
    runs.
    """
    from scipy.stats import kendalltau

    rows = []
    for runs in study.sizes.values():
        for run_id in runs:
            before, after = study.slopes(run_id)
            if np.isfinite(before) and np.isfinite(after):
                rows.append((float(study.setting("parameters")[run_id]), before, after))
    if len(study.sizes) > 1 and not rows:
        return _no_window(study)
    values = np.array(rows).reshape(-1, 3)
    sizes = len(np.unique(values[:, 0]))
    if sizes < 2:
        return None
    tests: list[Any] = [kendalltau(values[:, 0], values[:, i]) for i in (1, 2)]
    (before, p_before), (after, p_after) = ((float(test.statistic), float(test.pvalue)) for test in tests)
    found = (
        f"over {sizes} sizes τ = {number(before, '+.2f')} before (p = {p_before:.2g}) and {number(after, '+.2f')} "
        f"after (p = {p_after:.2g}); positive: the larger the model, the slower its loss falls"
    )
    if sizes < 3:
        return Finding("cannot tell", found, len(values), "three sizes or more that have the change")
    if max(p_before, p_after) > 0.05:
        return Finding("cannot tell", found, len(values), "more seeds or sizes further apart")
    inverted = before * after < 0
    return Finding("supported" if inverted else "contradicted", found, len(values))


@claim("O22", "induction heads carry most of in-context learning in small models")
def heads_carry_it(study: Evidence) -> Finding | None:
    """In each plain run more than half of the ICL score goes with the induction heads, beyond 1.645 standard errors,
    and more than with any matched set; runs without a matched set are left open. The least favourable cell counts.
    """
    rows = study.shares.query("quantity == 'icl_window_score'").dropna(subset="share").set_index("run_id")

    def cell(runs: list[str], level: float) -> Finding | None:
        own = rows.loc[runs]
        share, low, high = mean_interval(own["share"].to_numpy(np.float64), level)
        note = f"{number(share, '.0%')} of the ICL score is lost without them {ends(low, high, '.0%')}"
        matched = own.query("draws > 0")
        if matched.empty:
            needs = "models in which enough other heads are left for a matched set"
            return Finding("cannot tell", f"{note}, and there is no matched set", len(own), needs)
        most = (matched["share"] - 1.645 * matched["share_stderr"] > 0.5) & (matched["lost"] > matched["matched_high"])
        beside = f"; {note}, {number(matched['matched_share'].mean(), '.0%')} without a matched set"
        open_ = len(own) - len(matched)
        return share_of_runs(most.tolist(), "lose more than half", beside, undecided=open_, level=level)

    return over_cells(study, (r for r in map(str, rows.index) if study.plain(r)), cell)
