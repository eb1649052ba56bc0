"""Small random models of which nothing is symmetric, 0 or the identity, and all that is read from their weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from induction_bump.measures.circuits import copying_eigenvalue, qk_terms
from induction_bump.measures.composition import composition
from induction_bump.measures.folding import Folded, Head, Undefined, fold, refuse
from induction_bump.model.options import ModelOptions
from induction_bump.model.transformer import Transformer

V, T = 11, 9


def random_model(
    model: ModelOptions, seed: int = 0, spread: float = 0.4, vocab_size: int = V, context: int = T
) -> Transformer:
    """Gains, biases and α are random as well: `spread` is their standard deviation, about the initial value."""
    made = Transformer(model, vocab_size, context, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(
                spread * torch.randn(parameter.shape, generator=generator) * (1 + parameter.std(correction=0))
            )
    return made


def weights_of(model: Transformer, seed: int = 0) -> np.ndarray:
    """What `previous_token` could be."""
    return np.random.default_rng(seed).random((model.options.n_attention, model.options.n_heads))


def weight_measures(folded: Folded, previous_token: np.ndarray) -> dict[tuple[Any, ...], float]:
    """Every number, composition included, by label and heads."""
    values = copying_eigenvalue(folded) | qk_terms(folded, previous_token)
    flat: dict[tuple[Any, ...], float] = {
        (label, *head): value for label, by_head in values.items() for head, value in by_head.items()
    }
    c = composition(folded)
    for row in zip(c.kind, c.layer_in, c.head_in, c.layer_out, c.head_out, c.value, strict=True):
        flat[(f"composition_{row[0]}", *map(int, row[1:5]))] = float(row[5])
    return flat


def of_model(model: Transformer, previous_token: np.ndarray | None = None) -> dict[tuple[Any, ...], float]:
    given = weights_of(model) if previous_token is None else previous_token
    return weight_measures(fold(model), given)


def assert_same(found: dict, expected: dict, keep: Callable[[str], bool] = lambda label: True) -> None:
    """Equal values of the same labels and heads, of the labels to keep."""
    assert found.keys() == expected.keys()
    chosen = [key for key in found if keep(key[0])]
    assert chosen
    for label in {key[0] for key in chosen}:
        keys = [key for key in chosen if key[0] == label]
        scale = max(1e-3, *(abs(expected[key]) for key in keys))
        # float32 weights that were changed by an invariance are equal to 1e-7 of them
        np.testing.assert_allclose([found[k] for k in keys], [expected[k] for k in keys], rtol=0, atol=2e-5 * scale)


def changed(model: Transformer, change: Callable[[Transformer], None]) -> Transformer:
    """A copy of a model after `change`."""
    other = Transformer(model.options, model.vocab_size, model.context)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        change(other)
    return other


def pairs(
    folded: Folded, kinds: Any = ("q", "k", "v"), undefined: Undefined = refuse
) -> dict[tuple[str, Head, Head], float]:
    """Ratios of composition, the baseline not taken away."""
    c = composition(folded, kinds, undefined)
    places = np.stack([c.layer_in, c.head_in, c.layer_out, c.head_out], 1).tolist()
    return {
        (str(kind), (a, b), (x, y)): value
        for kind, (a, b, x, y), value in zip(c.kind, places, (c.value + c.baseline).tolist(), strict=True)
    }
