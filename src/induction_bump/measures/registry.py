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

_PARTS = {
    "predictable_share": "predictable_loss",
    "unpredictable_share": "unpredictable_loss",
    "first_copy_loss": "copy_advantage",
    "second_copy_loss": "copy_advantage",
    "shuffled_copy_loss": "ordered_copy_advantage",
}


def measure_of(label: str) -> str:
    """The measure that a row's name belongs to: `predictable_share` is part of `predictable_loss`."""
    return "null99" if label.startswith("null99/") else _PARTS.get(label, label)
