"""Claims about the circuits behind it (Elhage et al. 2021)."""

import numpy as np
import pandas as pd

from induction_bump.linking.claims.claim import Finding, claim, share_of_runs, within
from induction_bump.linking.claims.evidence import Evidence, mean_interval
from induction_bump.linking.claims.wording import ends, number

STRONG = 0.3
"""Prefix matching from which a head is an induction head here."""
BIGRAM = 0.05
"""Nats within which a loss counts as the bigram model's."""
LITTLE = 0.2
"""Share of the loss saved by all heads that virtual heads may save and still be of little account."""


@claim("E21", "a model without attention learns bigram statistics")
def no_layer_is_a_bigram_table(study: Evidence) -> Finding | None:
    """The 90 % interval of the mean gap between the corpus's bigram loss and the model's lies within ±0.05 nat at the
    end.
    """
    runs = [run_id for run_id, sublayers in study.setting("model.sublayers").items() if sublayers == ""]
    gaps = study.last("bigram_gap", runs)
    if not len(gaps):
        return None
    mean, low, high = mean_interval(gaps)
    verdict = within(low, high, -BIGRAM, BIGRAM)
    needs = "more seeds" if verdict == "cannot tell" else ""
    found = f"{number(mean, '+.3f')} nat better than the bigram model {ends(low, high, '+.3f')}"
    return Finding(verdict, found, len(gaps), needs)


@claim("E21", "one layer of attention has no induction heads")
def one_layer_has_no_induction_heads(study: Evidence) -> Finding | None:
    """Each run of one attention layer with plain keys ends without the prefix-matching event."""
    event = "prefix_matching"
    runs = [r for r in study.having(event) + study.without(event) if study.layers(r) == 1 and study.plain(r)]
    return share_of_runs([r in study.without(event) for r in runs], "end without induction heads")


@claim("E21", "two layers of attention have induction heads")
def two_layers_have_induction_heads(study: Evidence) -> Finding | None:
    """Each plain run of two attention layers, on data with something to copy, has the prefix-matching event."""
    event = "prefix_matching"
    runs = [r for r in study.having(event) + study.without(event) if study.layers(r) == 2 and study.ordinary(r)]
    return share_of_runs([r in study.having(event) for r in runs], "have induction heads")


def _at_the_end(study: Evidence) -> pd.DataFrame:
    """Scores of every head at each run's last snapshot that holds them: run_id, layer, head × measure."""
    rows = study.records.heads
    last = rows.loc[rows.groupby(["run_id", "layer", "head", "measure"])["step"].idxmax()]
    return last.pivot(index=["run_id", "layer", "head"], columns="measure", values="value").reset_index()


@claim("E21", "induction heads lie in the (+, +) corner of copying and QK eigenvalues")
def induction_heads_in_the_corner(study: Evidence) -> Finding | None:
    """In each run with plain keys all heads whose prefix matching is at least 0.3 at the end have both eigenvalue
    scores above 0.
    """
    heads = _at_the_end(study)
    if not {"copying_eigenvalue", "qk_eigenvalue", "prefix_matching"} <= set(heads):
        return None
    heads = heads.dropna(subset=["copying_eigenvalue", "qk_eigenvalue"]).query(f"prefix_matching >= {STRONG}")
    heads = heads.loc[[study.plain(str(run)) for run in heads["run_id"]]]
    corner = (heads["copying_eigenvalue"] > 0) & (heads["qk_eigenvalue"] > 0)
    note = f"; {int(corner.sum())} of {len(heads)} heads are"
    return share_of_runs(corner.groupby(heads["run_id"]).all().tolist(), "have all of theirs there", note)


@claim("E21", "induction heads read a previous-token head through their keys (K-composition)")
def keys_read_the_previous_token_head(study: Evidence) -> Finding | None:
    """In each plain run K-composition with the induction heads, above that of random factors, is largest for the
    earlier head with the highest previous-token score; runs with a single earlier head do not count.
    """
    pairs = study.records.read("head_pairs", kind="k")
    if pairs.empty:
        return None
    heads = _at_the_end(study)
    pairs = pairs.loc[pairs["step"] == pairs.groupby("run_id")["step"].transform("max")]
    induction = heads.query(f"prefix_matching >= {STRONG}").rename(columns={"layer": "layer_out", "head": "head_out"})
    reading = pairs.merge(induction[["run_id", "layer_out", "head_out"]], on=["run_id", "layer_out", "head_out"])
    earlier = heads.rename(columns={"layer": "layer_in", "head": "head_in"})
    key = ["run_id", "layer_in", "head_in"]
    read = reading.groupby(key, as_index=False)["value"].mean().merge(earlier[[*key, "previous_token"]], on=key)
    largest, above = [], []
    for run_id, own in read.groupby("run_id"):
        if study.plain(str(run_id)) and len(own) > 1:
            composed, previous = own["value"].to_numpy(np.float64), own["previous_token"].to_numpy(np.float64)
            largest.append(bool(composed.argmax() == previous.argmax()))
            above.append(composed[previous.argmax()])
    note = f"; {number(float(np.mean(above)), '+.3f')} above random factors on average" if above else ""
    return share_of_runs(largest, "compose most with it", note)


@claim("E21", "virtual heads save little beyond what heads save one at a time")
def virtual_heads_matter_little(study: Evidence) -> Finding | None:
    """The 90 % interval of the mean share of paths through two or more heads, in what all paths save over the direct
    one, lies below 0.2 in plain attention-only models that have had the change of in-context learning.

    The figures themselves (−5.2 and −0.3 nats after −1.8) depend on data and size.
    """
    rows = study.records.read("paths", how="up_to")
    if rows.empty:
        return None
    rows = rows[rows["step"] == rows.groupby("run_id")["step"].transform("max")]
    wide = rows.pivot(index="run_id", columns="order", values="value")
    layers = {str(r): str(sublayers) for r, sublayers in study.setting("model.sublayers").items()}
    attention_only = [r for r in map(str, wide.index) if len(layers[r]) > 1 and set(layers[r]) == {"s"}]
    changed = set(study.having())
    runs = [r for r in attention_only if study.plain(r) and r in changed]
    if not runs:
        return None
    last = np.array([wide.loc[r].dropna().iloc[-1] for r in runs])
    first, second = (wide[0] - wide[1]).loc[runs].to_numpy(), wide[1].loc[runs].to_numpy() - last
    share, low, high = mean_interval(second / (first + second))
    verdict = within(low, high, -np.inf, LITTLE)
    found = (
        f"order 1 saves {first.mean():.2f} nats, higher orders {second.mean():.2f}: "
        f"{number(share, '.0%')} {ends(low, high, '.0%')}; in E21 5.2 and 0.3, 5 %"
    )
    return Finding(verdict, found, len(runs), "more seeds" if verdict == "cannot tell" else "")
