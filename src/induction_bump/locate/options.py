"""Thresholds of the events and of the phase change. They read records, so they are no part of a run's identity."""

from induction_bump.options import NonNegative, PositiveFloat, Share, options


@options
class LocateOptions:
    """When a quantity counts as having crossed or changed (docs/measures/definitions.md#events)."""

    sustain: NonNegative = 2
    """Further snapshots on which a crossing must hold."""
    head_floor: Share = 0.10
    """Least threshold of head scores."""
    null_margin: Share = 0.05
    """A head score must exceed null99 by this much."""
    strong: Share = 0.30
    """Threshold of `prefix_matching_strong`."""
    copy_nats: PositiveFloat = 2.0
    """Most that `ordered_copy_advantage` must reach; half of ln(probe tokens) where that is less."""
    icl_drop: PositiveFloat = 0.1
    """Fall of `icl_window_score` below its plateau, in nats."""
    icl_standard_errors: PositiveFloat = 4.0
    """The same fall in standard errors of the paired change."""
    change_drop: PositiveFloat = 0.1
    """Least drop of `icl_window_score`, in nats, that makes a phase change."""
