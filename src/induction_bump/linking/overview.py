"""A line a run: its change of in-context learning, and how much of that is lost without its induction heads."""

import numpy as np
import pandas as pd

from induction_bump.linking.causal_share import at_the_end, causal_shares
from induction_bump.locate.formats import format_interval
from induction_bump.locate.located import Located, LocatedRun
from induction_bump.locate.text import aligned
from induction_bump.records.load import Records

_NONE = "–"
_TITLES = (
    "run",
    "verdict",
    "onset–end",
    "midpoint (90 %)",
    "drop, nats (90 %)",
    "lost without induction heads",
    "without matched heads",
)


def overview(located: Located) -> str:
    """What `make bump` ends with.

    Window and drop are those of the ICL score's phase change, run interval. Lost: of the ICL score at the last snapshot
    with all induction heads ablated together, in nats, as a share (± standard error), and beside the mean over matched
    sets. A dash where there is none, or where `bump measure` has not ablated them.
    """
    shares = causal_shares(Records(located.path, [run.run for run in located.runs]))
    lost = at_the_end(shares.query("quantity == 'icl_window_score'")).set_index("run_id")
    lines = [(run.run.name, *_change(run), *_lost(lost, run.run_id)) for run in located.runs]
    return "\n".join(["In-context learning", *aligned([_TITLES, *lines])])


def _change(run: LocatedRun) -> tuple[str, str, str, str]:
    change = run.change("icl_change")
    if change is None:
        return _NONE, _NONE, _NONE, _NONE
    verdict = change.verdict.replace("_", " ")
    place = change.change.place if change.found and change.change else None
    if place is None:
        return verdict, _NONE, _NONE, _NONE
    return (
        verdict,
        format_interval(place.onset.value, place.end.value),
        format_interval(place.midpoint.low, place.midpoint.high),
        f"{place.drop.value:.2f} ({place.drop.low:.2f} to {place.drop.high:.2f})",
    )


def _lost(shares: pd.DataFrame, run_id: str) -> tuple[str, str]:
    if run_id not in shares.index:
        return _NONE, _NONE
    row = shares.loc[run_id]
    lost = f"{row['lost']:.2f} of {abs(row['intact']):.2f} nats"
    if not np.isnan(row["share"]):
        lost += f" ({row['share']:.0%} ± {row['share_stderr']:.0%})"
    return lost, f"{row['matched']:.2f} nats" if row["draws"] else "no heads left to match"
