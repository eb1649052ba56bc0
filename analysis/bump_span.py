"""The stretch of a run's training that figures call its bump: the span of its events."""

import pandas as pd

EVENTS = ("previous_token", "prefix_matching", "copy_advantage", "icl")


def bump_span(events: pd.DataFrame, run_id: str) -> tuple[float, float] | None:
    """Tokens from before the first of a run's events up to the last one, from rows of `phase_changes`.

    Wider than the phase change of any one quantity: heads form before the ICL score moves. None where neither induction
    heads nor in-context learning were located; a previous-token head alone is no bump.
    """
    own = events[(events["run_id"] == run_id) & events["event"].isin(EVENTS) & (events["verdict"] == "found")]
    if not own["event"].isin(["prefix_matching", "icl"]).any():
        return None
    return float(own["tokens_low"].min()), float(own["tokens_high"].max())
