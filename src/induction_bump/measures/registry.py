"""The version of every measure. A changed definition is a new version; records carry them all."""

from collections.abc import Mapping

VERSIONS: Mapping[str, int] = {
    "loss": 1,
    "loss_by_position": 1,
    "icl_score": 1,
    "icl_window_score": 1,
    "token_losses": 1,
    "predictable_loss": 1,
    "unpredictable_loss": 1,
    "copy_advantage": 1,
    "ordered_copy_advantage": 1,
    "prefix_matching": 1,
    "prefix_matching_mean": 1,
    "prefix_matching_off_by_one": 1,
    "duplicate_token": 1,
    "previous_token": 1,
    "first_token": 1,
    "null99": 1,
}
"""Name → version."""
