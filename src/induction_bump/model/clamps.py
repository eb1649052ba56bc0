"""What clamps are to a model: a bias on the scores of a layer, and heads that are held at zero.

Defined in docs/measures/definitions.md#model-variants.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from induction_bump.model.options import Clamp, ModelOptions


def score_biases(options: ModelOptions, context: int) -> dict[int, Float[Tensor, "H T T"]]:
    """By attention layer that has such a clamp: the bias on pre-softmax scores, −∞ where j is later than i.

    A query without the place that its head is pulled to (i − 1 or i − 2 at the start) has no bias.
    """
    biases: dict[int, Tensor] = {}
    future = torch.full((context, context), -torch.inf).triu(1)
    for clamp in options.clamps:
        if clamp.kind != "zero":
            bias = biases.setdefault(clamp.layer, future.expand(options.n_heads, -1, -1).clone())
            _favoured(bias[clamp.head], clamp).add_(clamp.strength)
    return biases


def _favoured(scores: Float[Tensor, "T T"], clamp: Clamp) -> Tensor:
    """A view of the entries [i, j] that a clamp favours."""
    if clamp.kind == "first":
        return scores[:, 0]
    return scores.diagonal(-1 if clamp.kind == "previous" else -2)


def held_at_zero(options: ModelOptions) -> dict[int, tuple[int, ...]]:
    """By attention layer: the heads whose output is 0."""
    held: dict[int, tuple[int, ...]] = {}
    for clamp in options.clamps:
        if clamp.kind == "zero":
            held[clamp.layer] = (*held.get(clamp.layer, ()), clamp.head)
    return held


def free_heads(options: ModelOptions) -> list[tuple[int, int]]:
    """(layer, head) of every head without a clamp: those that say what training does."""
    clamped = {(clamp.layer, clamp.head) for clamp in options.clamps}
    every = ((layer, head) for layer in range(options.n_attention) for head in range(options.n_heads))
    return [head for head in every if head not in clamped]
