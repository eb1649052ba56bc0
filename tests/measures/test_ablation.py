"""Ablations: naive loops over every variant, what must not matter, and what they cost."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from induction_bump.measures import ablation, batches
from induction_bump.measures.ablation import Kind, ablate, every_head, mean_z
from induction_bump.model.options import Clamp
from induction_bump.model.transformer import Attention
from tests.measures.naive_ablation import NaiveAblation
from tests.measures.random_models import V, random_model
from tests.model.variants import VARIANTS, options

N, T = 3, 6
KINDS: tuple[Kind, ...] = ("zero", "mean", "pattern_preserving")
TOKENS = np.random.default_rng(0).integers(0, V, (N, T + 1))
TWO_LAYERS = {name: o for name, o in VARIANTS.items() if o.sublayers == "sfs"} | {
    "deep": options(sublayers="sfsfs"),
    "clamped": options(
        sublayers="ss",
        clamps=(Clamp(layer=0, head=0, kind="previous", strength=2.0), Clamp(layer=1, head=1, kind="zero")),
    ),
}


@pytest.mark.parametrize("name", TWO_LAYERS)
def test_losses_are_those_of_loops_over_sequences_and_heads(name: str) -> None:
    model = random_model(
        TWO_LAYERS[name], spread=0.15
    )  # without norms activations grow, and float32's rounding with them
    groups = [frozenset({(0, 1)}), frozenset({(1, 2)}), frozenset({(0, 0), (1, 0)})]
    found = ablate(model, TOKENS, groups, KINDS)
    naive = NaiveAblation(model, list(TOKENS))
    for group in groups:
        for kind in KINDS:
            expected = np.stack(naive.losses(group, kind))
            np.testing.assert_allclose(
                found.changed[kind, group], expected, atol=1e-5 * max(1, expected.max()), rtol=0, err_msg=kind
            )


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(options(sublayers="sfs"))
    whole = ablate(model, TOKENS, every_head(model), KINDS)
    monkeypatch.setattr(batches, "TOKENS_AT_ONCE", 1)
    pieces = ablate(model, TOKENS, every_head(model), KINDS)
    np.testing.assert_allclose(pieces.intact, whole.intact, rtol=0, atol=1e-5)
    for key, values in whole.changed.items():
        np.testing.assert_allclose(pieces.changed[key], values, rtol=0, atol=1e-5)


def test_a_head_that_writes_nothing_costs_nothing() -> None:
    model = random_model(options(sublayers="sfs"))
    with torch.no_grad():
        next(model.attention_sublayers()).W_O[1] = 0
    found = ablate(model, TOKENS, every_head(model), KINDS)
    for kind in KINDS:
        np.testing.assert_allclose(found.changed[kind, frozenset({(0, 1)})], found.intact, rtol=0, atol=1e-5)
    assert np.abs(found.changed["zero", frozenset({(0, 0)})] - found.intact).max() > 1e-3


def test_the_last_layer_has_no_pattern_to_preserve() -> None:
    model = random_model(options(sublayers="sfs"))
    found = ablate(model, TOKENS, every_head(model), KINDS)
    last, first = frozenset({(1, 0)}), frozenset({(0, 0)})
    np.testing.assert_array_equal(found.changed["zero", last], found.changed["pattern_preserving", last])
    assert np.abs(found.changed["zero", first] - found.changed["pattern_preserving", first]).max() > 1e-4


def test_no_head_at_all_is_the_intact_model() -> None:
    model = random_model(options(sublayers="ss"))
    found = ablate(model, TOKENS, [frozenset()], KINDS)
    for values in found.changed.values():
        np.testing.assert_array_equal(values, found.intact)


def test_a_mean_over_one_sequence_is_the_intact_model() -> None:
    model = random_model(options(sublayers="ss"))
    found = ablate(model, TOKENS[:1], every_head(model), ["mean"])
    for values in found.changed.values():
        np.testing.assert_allclose(values, found.intact, rtol=0, atol=1e-5)
    assert {layer: z.shape for layer, z in mean_z(model, TOKENS).items()} == dict.fromkeys((0, 1), (T, 3, 6))


@settings(deadline=None, max_examples=10)
@given(order=st.permutations(range(3)), c=st.floats(0.2, 5), biased=st.booleans())
def test_the_order_of_heads_and_the_scale_between_values_and_output_do_not_matter(
    order: list[int], c: float, biased: bool
) -> None:
    chosen = options(sublayers="ss", biases=biased)
    model, changed = random_model(chosen), random_model(chosen)
    with torch.no_grad():
        for sublayer in changed.attention_sublayers():
            _reorder(sublayer, order)
            sublayer.W_V.mul_(c)
            if biased:
                sublayer.b_V.mul_(c)
            sublayer.W_O.div_(c)
    before = ablate(model, TOKENS, every_head(model), KINDS)
    after = ablate(changed, TOKENS, every_head(model), KINDS)
    for kind in KINDS:
        for layer in range(2):
            for head in range(3):
                np.testing.assert_allclose(
                    after.changed[kind, frozenset({(layer, head)})],
                    before.changed[kind, frozenset({(layer, order[head])})],
                    atol=2e-5,
                    rtol=1e-4,
                )


def _reorder(sublayer: Attention, order: list[int]) -> None:
    for name, weight in sublayer.named_parameters():
        if name in ("W_Q", "W_K", "W_V"):
            weight.copy_(weight[:, order].clone())
        elif name in ("W_O", "b_Q", "b_K", "b_V"):
            weight.copy_(weight[order].clone())


def test_each_ablation_computes_only_what_lies_after_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads of layer l cost one pass of the sublayers after l each, and the intact model one pass."""
    model = random_model(options(sublayers="sss"))
    calls: list[int] = []
    original: Callable[..., Tensor] = Attention.forward

    def counting(self: Attention, *args: object, **kwargs: object) -> Tensor:
        calls.append(self.layer)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Attention, "forward", counting)
    ablate(model, TOKENS, every_head(model), ["zero", "pattern_preserving"])
    heads, kinds = 3, 2
    assert [calls.count(layer) for layer in range(3)] == [1, 1 + kinds * heads, 1 + kinds * 2 * heads]


def test_preserved_patterns_are_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(options(sublayers="ss"))
    calls: list[int] = []
    original = Attention._attend

    def counting(self: Attention, *args: object, **kwargs: object) -> Tensor:
        calls.append(self.layer)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Attention, "_attend", counting)
    ablate(model, TOKENS, every_head(model), ["pattern_preserving"])
    assert calls == [0, 1]


def test_memory_of_patterns_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = ablation.batches

    def spy(*args: object, **kwargs: object):
        for batch in original(*args, **kwargs):
            sizes.append(len(batch))
            yield batch

    monkeypatch.setattr(ablation, "batches", spy)
    monkeypatch.setattr(batches, "PATTERN_BYTES", 4 * 3 * 2 * (T + 1) ** 2 * 2)
    model = random_model(options(sublayers="ss"))
    ablate(model, TOKENS, every_head(model), ["pattern_preserving"])
    assert max(sizes) == 2


def test_a_head_that_is_not_there_is_an_error() -> None:
    model = random_model(options(sublayers="s"))
    with pytest.raises(ValueError, match="L1H0 does not exist; this model has 1 layers of 3 heads"):
        ablate(model, TOKENS, [frozenset({(1, 0)})], ["zero"])


def test_a_broken_model_is_an_error() -> None:
    model = random_model(options(sublayers="s"))
    with torch.no_grad():
        next(model.attention_sublayers()).W_O.fill_(torch.nan)
    with pytest.raises(ValueError, match="losses are not finite"):
        ablate(model, TOKENS, every_head(model), ["zero"])
