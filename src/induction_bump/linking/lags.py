"""How long after one event of a run another follows, with all that the bracketing snapshots leave open.

Of a first event in (a₁, a₂] and a second in (b₁, b₂], the lag lies in (b₁ − a₂, b₂ − a₁) and its logarithm in
(ln b₁ − ln a₂, ln b₂ − ln a₁): interval arithmetic, whatever the two have to do with each other. Intervals of phase
changes hold with 90 % each, so those of their lags with at least 80 %.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from induction_bump.linking.times import CHANGES, event_times
from induction_bump.records.load import Records

Order = Literal["before", "together", "after"]
"""When the second event comes: `before` or `after` the first, `together` where the intervals leave both open."""
PAIRS = (("previous_token", "icl"), ("prefix_matching", "icl"), ("previous_token", "prefix_matching"))
"""First and second event of the lags that link the bump to its heads."""


def lags(records: Records) -> pd.DataFrame:
    """One row a run, pair of `PAIRS` and source: how long the second event comes after the first.

    Columns: run_id, first, second, source, order, lag, lag_low, lag_high (tokens), log_ratio, log_ratio_low,
    log_ratio_high (ln of second over first). ±∞ where an interval starts at 0 tokens or is censored; NaN in `lag` and
    `log_ratio` where either event has no estimate. A pair of which neither event can happen in a run has no row.
    """
    tables = {("event", event): event_times(records, event, "event") for pair in PAIRS for event in pair}
    tables |= {("change", event): event_times(records, event, "change") for event in CHANGES}
    rows = []
    for source in ("event", "change"):
        for first, second in PAIRS:
            if (source, first) not in tables or (source, second) not in tables:
                continue
            both = (tables[source, name].to_dict("records") for name in (first, second))
            for one, other in zip(*both, strict=True):
                if source == "change" and "located" not in (one["state"], other["state"]):
                    continue  # nothing but what the events say already
                if (row := lag(one, other)) is not None:
                    rows.append({"run_id": one["run_id"], "first": first, "second": second, "source": source, **row})
    return pd.DataFrame(rows, columns=["run_id", "first", "second", "source", *_NUMBERS])


_NUMBERS = ("order", "lag", "lag_low", "lag_high", "log_ratio", "log_ratio_low", "log_ratio_high")


def lag(first: Mapping[Any, Any], second: Mapping[Any, Any]) -> dict[str, float | Order] | None:
    """From two rows of `event_times`; None where either time is undefined, or neither event was seen to happen."""
    states = (first["state"], second["state"])
    if "undefined" in states or not {"located", "before"} & set(states):
        return None
    low, high = second["low"] - first["high"], second["high"] - first["low"]
    with np.errstate(divide="ignore", invalid="ignore"):
        ln_low = np.log(second["low"]) - np.log(first["high"]) if second["low"] > 0 else -np.inf
        ln_high = np.log(second["high"]) - np.log(first["low"]) if first["low"] > 0 else np.inf
    order: Order = "together"
    if low >= 0:
        order = "after"
    elif high <= 0:
        order = "before"
    known = states == ("located", "located")
    return {
        "order": order,
        "lag": float(second["estimate"] - first["estimate"]) if known else np.nan,
        "lag_low": float(low),
        "lag_high": float(high),
        "log_ratio": float(np.log(second["estimate"] / first["estimate"])) if known else np.nan,
        "log_ratio_low": float(ln_low),
        "log_ratio_high": float(ln_high),
    }
