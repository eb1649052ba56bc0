"""Small models of every variant, for tests that must hold for all of them."""

import itertools
from typing import Any

from induction_bump.model.options import ModelOptions

_SMALL: dict[str, Any] = {"d_model": 12, "n_heads": 3, "d_head": 6, "d_mlp": 20}


def options(**changes: Any) -> ModelOptions:
    """A small model whose d_head is not d_model / n_heads."""
    return ModelOptions(**{**_SMALL, **changes})


VARIANTS: dict[str, ModelOptions] = {
    "-".join(f"{value}" for value in values): options(
        sublayers=sublayers, positions=positions, norm=norm, smeared_keys=smeared, biases=biases, tied=tied
    )
    for values in itertools.product(
        ("s", "sfs"),
        ("shortformer", "rotary", "learned", "none"),
        ("layernorm", "rmsnorm", "none"),
        (False, True),
        (False, True),
        (False, True),
    )
    for sublayers, positions, norm, smeared, biases, tied in (values,)
} | {
    "zero-layer": options(sublayers=""),
    "feed-forward-only": options(sublayers="ff", activation="relu"),
    "sandwich": options(sublayers="sssfff", activation="solu"),
    "derived-d_head": ModelOptions(d_model=12, n_heads=2),
}
