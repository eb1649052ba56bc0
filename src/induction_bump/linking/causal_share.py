"""How much of in-context learning is lost without the induction heads, over training and against other heads.

`bump measure` ablates the induction heads together, and equally many other heads of the same layers, at every snapshot
(docs/measures/definitions.md#interventions); this puts what is lost beside what there was.
"""

import numpy as np
import pandas as pd

from induction_bump.records.load import Records

QUANTITIES = ("icl_window_score", "ordered_copy_advantage")
KIND = "pattern_preserving"
LEAST = 0.1
"""Nats that there must be of a quantity for a share of it to say something."""
COLUMNS = [
    "run_id", "step", "tokens", "quantity", "kind", "intact", "intact_stderr", "lost", "lost_stderr", "share",
    "share_stderr", "matched", "matched_low", "matched_high", "matched_share", "draws", "p",
]  # fmt: skip


def causal_shares(records: Records, kind: str = KIND) -> pd.DataFrame:
    """One row a run, snapshot and quantity at which groups were ablated.

    `lost` is what is lost without the induction heads, in nats, positive where they help: the rise of an ICL score
    (negative where there is in-context learning), the fall of a copy advantage. `share` is lost / |intact|, the intact
    value of the same snapshot; NaN where that is below `LEAST` or has the sign of no in-context learning.

    `matched` is the mean over the matched sets of what is lost without them, `matched_low` and `matched_high` the least
    and the most, `draws` their number (0: `no_match`, and the rest NaN), `p` = (1 + sets that lose as much) / (1 +
    draws): how often a set picked among all would be the one that loses most.

    share_stderr = √(se(lost)² + share² se(intact)²) / |intact| takes the two as independent. Where an example loses the
    more the more it had, they are not, and the true error is smaller.
    """
    groups = records.read("ablations", quantity=list(QUANTITIES), kind=kind).dropna(subset="group")
    if groups.empty:
        return pd.DataFrame(columns=COLUMNS)
    groups["lost"] = groups["value"] * np.where(groups["quantity"] == "icl_window_score", 1.0, -1.0)
    own = groups.query("group == 'induction'").rename(columns={"stderr": "lost_stderr"})
    there = records.read("scalars", name=list(QUANTITIES)).rename(
        columns={"name": "quantity", "value": "intact", "stderr": "intact_stderr"}
    )
    rows = own.merge(there, on=_KEY, how="left").merge(_matched(groups, own), on=_KEY, how="left")
    amount = np.where(rows["quantity"] == "icl_window_score", -rows["intact"], rows["intact"])
    amount = np.where(amount >= LEAST, amount, np.nan)
    rows["share"] = rows["lost"] / amount
    beside = rows["share"] * rows["intact_stderr"].astype(float).fillna(0.0)
    rows["share_stderr"] = np.hypot(rows["lost_stderr"], beside) / amount
    rows["matched_share"] = rows["matched"] / amount
    rows["draws"] = rows["draws"].fillna(0).astype(int)
    return rows.sort_values(["run_id", "quantity", "step"]).reset_index(drop=True).reindex(columns=COLUMNS)


_KEY = ["run_id", "step", "tokens", "quantity"]


def _matched(groups: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """By run, snapshot and quantity: what is lost without the matched sets, and how the induction heads rank."""
    sets = groups.query("group == 'matched'").merge(own[[*_KEY, "lost"]], on=_KEY, suffixes=("", "_own"))
    sets["as_much"] = sets["lost"] >= sets["lost_own"]
    found = sets.groupby(_KEY, as_index=False).agg(
        matched=("lost", "mean"),
        matched_low=("lost", "min"),
        matched_high=("lost", "max"),
        draws=("lost", "count"),
        as_much=("as_much", "sum"),
    )
    found["p"] = (1 + found["as_much"]) / (1 + found["draws"])
    return found.drop(columns="as_much")


def at_the_end(shares: pd.DataFrame) -> pd.DataFrame:
    """The rows of each run's last snapshot."""
    last = shares.groupby("run_id")["step"].transform("max")
    return shares.loc[shares["step"] == last].reset_index(drop=True)
