"""Claims about in-context learning and its sudden growth (Olsson et al. 2022)."""

from typing import Any

import numpy as np

from induction_bump.linking.claims.claim import Finding, claim, left_open, not_comparable, share_of_runs, within
from induction_bump.linking.claims.evidence import Evidence, mean_interval
from induction_bump.linking.equivalence import equivalence, seeds_for_equivalence

SAME_SCORE = 0.1
"""Nats within which ICL scores count as the same."""
SAME_WINDOW = 1.25
"""Ratio of times within which two events count as one change."""
_TEXT = "the figure depends on the data: real text with a context of at least 500"


@claim("O22", "models of one attention layer do not go through an abrupt change of in-context learning")
def one_layer_has_none(study: Evidence) -> Finding | None:
    """Each run of one attention layer with plain keys ends without the ICL event."""
    runs = [r for r in study.located() + study.without() if study.layers(r) == 1 and study.plain(r)]
    return share_of_runs([r in study.without() for r in runs], "end without the change")


@claim("O22", "with smeared keys, one attention layer is enough for the change")
def smeared_keys_give_it_to_one_layer(study: Evidence) -> Finding | None:
    """Each run of one attention layer with smeared keys has the ICL event."""
    runs = [r for r in study.located() + study.without() if study.layers(r) == 1 and study.smeared(r)]
    return share_of_runs([r in study.located() for r in runs], "have the change")


@claim("O22", "models of two or more attention layers go through the change")
def two_layers_have_it(study: Evidence) -> Finding | None:
    """Each plain run of at least two attention layers, on data with something to copy, has the ICL event."""
    copies = study.runs.get("data.corpus.copy_share")
    runs = [
        r
        for r in study.located() + study.without()
        if study.layers(r) > 1 and study.plain(r) and (copies is None or not copies[r] <= 0)
    ]
    return share_of_runs([r in study.located() for r in runs], "have the change")


@claim("O22", "with smeared keys, two layers go through the change earlier")
def smeared_keys_bring_it_forward(study: Evidence) -> Finding | None:
    """Time against the same models with plain keys: exact test over seeds, corrected for the study's comparisons."""
    for effect in study.effects:
        settings, other = study.cells.settings(effect.cell), study.cells.settings(effect.reference)
        differ = {key for key, value in settings.items() if value != other[key]}
        if differ == {"model.smeared_keys"} and study.layers(study.cells.runs(effect.cell)[0]) > 1 and effect.test:
            found = (
                f"{effect.ratio:.2f} times the tokens [{effect.ratio_low:.2f}, {effect.ratio_high:.2f}], "
                f"p = {effect.p_holm:.2g}, smallest possible {effect.test.smallest:.2g}"
            )
            n = effect.n + effect.n_reference
            if effect.direction == "cannot tell":
                return Finding("cannot tell", found, n, f"{effect.seeds_needed or 'more'} seeds a model")
            return Finding("supported" if effect.direction == "earlier" else "contradicted", found, n)
    return None


@claim("O22", "the change is abrupt")
def the_change_is_abrupt(study: Evidence) -> Finding | None:
    """Each run in which a change of the ICL score was located has the verdict `abrupt`."""
    rows = [row for row in study.event("icl_change").values() if row["found"]]
    return share_of_runs([row["verdict"] == "abrupt" for row in rows], "changed abruptly")


@claim("O22", "the change shows as a bump in the loss curve")
def the_loss_has_a_bump(study: Evidence) -> Finding | None:
    """In each run with the ICL event the held-out loss is not convex beyond noise."""
    rows = study.event("loss_bump")
    runs = [r for r in study.located() if r in rows]
    return share_of_runs([bool(rows[r]["found"]) for r in runs], "have a bump in the loss")


@claim("O22", "induction heads form during the change")
def heads_form_with_it(study: Evidence) -> Finding | None:
    """In each run the events of prefix matching and ICL lie within a factor of 1.25 in tokens, whatever brackets leave
    open.
    """
    rows = study.lags.query("first == 'prefix_matching' and second == 'icl' and source == 'event'").dropna()
    limit = np.log(SAME_WINDOW)
    bounds = rows[["log_ratio_low", "log_ratio_high"]].to_numpy(np.float64)
    verdicts = [within(low, high, -limit, limit) for low, high in bounds]
    decided = [verdict == "supported" for verdict in verdicts if verdict != "cannot tell"]
    if not len(rows):
        return None
    mean, low, high = mean_interval(rows["log_ratio"].to_numpy(np.float64))
    note = f"; ICL at {np.exp(mean):.2f} times the tokens of prefix matching [{np.exp(low):.2f}, {np.exp(high):.2f}]"
    note += left_open(len(rows) - len(decided))
    found = share_of_runs(decided, "have both together", note)
    return found or Finding("cannot tell", note.lstrip("; "), len(rows), "snapshots at a finer interval")


@claim("O22", "the ICL score is above −0.15 nats before the change and about −0.4 after it")
def score_before_and_after(study: Evidence) -> Finding | None:
    """The interval of the mean score at the end lies within −0.5 … −0.3 nats, that before the change above −0.15; text
    alone compares.
    """
    runs = [r for r in study.located() if np.isfinite(study.before(r))]
    if not runs:
        return None
    before = np.array([study.before(r) for r in runs])
    after = study.last("icl_window_score", runs)
    if not len(after):
        return None
    (b, b_low, b_high), (a, a_low, a_high) = mean_interval(before), mean_interval(after)
    found = f"{b:.2f} nats before [{b_low:.2f}, {b_high:.2f}], {a:.2f} at the end [{a_low:.2f}, {a_high:.2f}]"
    if not study.on_text():
        return not_comparable(found, len(runs), _TEXT)
    verdicts = {within(a_low, a_high, -0.5, -0.3), within(b_low, b_high, -0.15, np.inf)}
    verdict = "contradicted" if "contradicted" in verdicts else "supported" if len(verdicts) == 1 else "cannot tell"
    return Finding(verdict, found, len(runs), "more seeds" if verdict == "cannot tell" else "")


@claim("O22", "the ICL score after the change is the same whatever the size")
def same_score_in_all_sizes(study: Evidence) -> Finding | None:
    """Equivalence within ±0.1 nat of every two sizes that have the change (two one-sided tests over seeds)."""
    scores = {name: study.last("icl_window_score", runs) for name, runs in study.sizes.items()}
    scores = {name: values for name, values in scores.items() if len(values) > 1}
    if len(scores) < 2:
        return None
    return same_in_all(scores, SAME_SCORE, "nat")


def _no_window(study: Evidence) -> Finding | None:
    """For a claim about the change's beginning and end, where none was located."""
    n, needs = len(study.located()), "a located change of the ICL score"
    return Finding("cannot tell", "no beginning and end were located", n, needs) if n else None


def same_in_all(groups: dict[str, np.ndarray], margin: float, unit: str) -> Finding:
    """The verdict of an equivalence test over several groups of runs."""
    test = equivalence(groups, margin)
    one, other = test.groups
    found = (
        f"the two least alike of {len(groups)} are {one} and {other}: they differ by {test.difference:+.2f} {unit} "
        f"[{test.low:+.2f}, {test.high:+.2f}], against ±{margin:.2g}; p of a difference that large {test.p:.2g}"
    )
    n = sum(len(values) for values in groups.values())
    if test.p < 0.05:
        return Finding("supported", found, n)
    if test.differ:
        return Finding("contradicted", found, n)
    spread = float(np.sqrt(np.mean([np.var(groups[name], ddof=1) for name in test.groups])))
    seeds = seeds_for_equivalence(margin, spread)
    return Finding("cannot tell", found, n, f"{seeds or 'more than 1,000'} seeds a model, if they are truly the same")


@claim("O22", "more than 75 % of the final ICL score forms during the change")
def most_forms_in_the_window(study: Evidence) -> Finding | None:
    """The 90 % interval of the mean share over runs lies above 0.75."""
    shares = []
    for run_id in study.located():
        window, final = study.window(run_id), study.last("icl_window_score", [run_id])
        if window and len(final) and final[0] < -0.1:
            low, high = (study.at("icl_window_score", run_id, tokens) for tokens in window)
            shares.append((high - low) / final[0])
    if not shares:
        return _no_window(study)
    mean, low, high = mean_interval(np.array(shares))
    found, verdict = f"{mean:.0%} [{low:.0%}, {high:.0%}]", within(low, high, 0.75, np.inf)
    return Finding(verdict, found, len(shares), "more seeds" if verdict == "cannot tell" else "")


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
        f"over {sizes} sizes τ = {before:+.2f} before (p = {p_before:.2g}) and {after:+.2f} after (p = {p_after:.2g}); "
        "positive: the larger the model, the slower its loss falls"
    )
    if sizes < 3:
        return Finding("cannot tell", found, len(values), "three sizes or more that have the change")
    if max(p_before, p_after) > 0.05:
        return Finding("cannot tell", found, len(values), "more seeds or sizes further apart")
    inverted = before * after < 0
    return Finding("supported" if inverted else "contradicted", found, len(values))


@claim("O22", "induction heads carry most of in-context learning in small models")
def heads_carry_it(study: Evidence) -> Finding | None:
    """In each run more than half of the ICL score goes with the induction heads, beyond 1.645 standard errors, and more
    than with any matched set.
    """
    rows = study.shares.query("quantity == 'icl_window_score'").dropna(subset="share")
    if rows.empty:
        return None
    share, low, high = mean_interval(rows["share"].to_numpy(np.float64))
    note = f"{share:.0%} of the ICL score is lost without them [{low:.0%}, {high:.0%}]"
    matched = rows.query("draws > 0")
    if matched.empty:
        needs = "models in which enough other heads are left for a matched set"
        return Finding("cannot tell", f"{note}, and there is no matched set", len(rows), needs)
    most = (matched["share"] - 1.645 * matched["share_stderr"] > 0.5) & (matched["lost"] > matched["matched_high"])
    beside = f"; {note}, {matched['matched_share'].mean():.0%} without a matched set"
    return share_of_runs(most.tolist(), "lose more than half", beside)
