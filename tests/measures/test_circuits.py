"""Copying and matching read from weights: naive matrices, real scores, and what must not matter."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from induction_bump.measures.circuits import copying_eigenvalue, qk_terms, smear
from induction_bump.measures.folding import fold
from induction_bump.model.options import Clamp, ModelOptions
from induction_bump.model.transformer import FeedForward, Site, Tap, Transformer
from tests.measures.naive_circuits import (
    naive_composition,
    naive_copying_eigenvalue,
    naive_qk_terms,
    rotation,
)
from tests.measures.random_models import (
    T,
    V,
    assert_same,
    changed,
    of_model,
    pairs,
    random_model,
    weight_measures,
    weights_of,
)
from tests.model.variants import VARIANTS, options

SEVERAL = {"s": "ss", "sfs": "sfs", "ff": "ff", "": ""}
"""Variants with one attention layer get two, so that there are pairs of heads."""

seeds = st.integers(0, 2**20)
few_examples = settings(max_examples=15, deadline=None)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_the_values_of_whole_matrices(name: str) -> None:
    variant = VARIANTS[name]
    model = random_model(replace(variant, sublayers=SEVERAL.get(variant.sublayers, variant.sublayers)))
    folded, weights = fold(model), weights_of(model)
    found = copying_eigenvalue(folded) | qk_terms(folded, weights)
    expected = naive_copying_eigenvalue(model) | naive_qk_terms(model, weights)
    assert {label: set(heads) for label, heads in found.items()} == {k: set(heads) for k, heads in expected.items()}
    for label, heads in expected.items():
        scale = max(map(abs, heads.values()))
        for head, value in heads.items():
            assert found[label][head] == pytest.approx(value, abs=1e-6 * max(1, scale)), label
    ratios = naive_composition(model)
    assert pairs(folded) == pytest.approx(ratios, abs=1e-7)
    if variant.sublayers in SEVERAL or not variant.n_attention:
        assert len(ratios) == (3 * variant.n_heads**2 if variant.n_attention else 0)


@pytest.mark.parametrize("sublayers", ["fss", "sfss", "fsfs", "s"])
@pytest.mark.parametrize("smeared_keys", [False, True])
def test_so_has_every_order_of_sublayers(sublayers: str, smeared_keys: bool) -> None:
    model = random_model(options(sublayers=sublayers, smeared_keys=smeared_keys, biases=True), seed=3)
    weights = weights_of(model)
    found = copying_eigenvalue(fold(model)) | qk_terms(fold(model), weights)
    expected = naive_copying_eigenvalue(model) | naive_qk_terms(model, weights)
    assert found.keys() == expected.keys()
    for label, heads in expected.items():
        assert found[label] == pytest.approx(heads, rel=1e-6, abs=1e-6), label


class TestWhatMustNotMatter:
    """Changes of the weights that say the same, and of which no measure may depend."""

    @few_examples
    @given(seeds, st.permutations(range(3)), st.permutations(range(3)))
    def test_permuting_heads_permutes_values(self, seed: int, first: list[int], second: list[int]) -> None:
        model = random_model(options(sublayers="sfs", smeared_keys=True, biases=True), seed)
        weights = weights_of(model, seed)

        def permute(other: Transformer) -> None:
            for sublayer, order in zip(other.attention_sublayers(), (first, second), strict=True):
                for weight in (sublayer.W_Q, sublayer.W_K, sublayer.W_V):
                    weight.copy_(weight[:, order].clone())
                for weight in (sublayer.W_O, sublayer.b_Q, sublayer.b_K, sublayer.b_V, sublayer.alpha):
                    weight.copy_(weight[order].clone())

        before = of_model(model, weights)
        after = of_model(changed(model, permute), np.stack([weights[0, first], weights[1, second]]))
        orders = (first, second)

        def moved(key: tuple[Any, ...]) -> tuple[Any, ...]:
            label, *places = key
            for n in range(0, len(places), 2):
                places[n + 1] = orders[places[n]][places[n + 1]]
            return (label, *places)

        assert_same({moved(key): value for key, value in after.items()}, before)

    @few_examples
    @given(seeds, st.floats(0.1, 10), st.sampled_from([1, -1]))
    def test_what_values_gain_and_outputs_lose(self, seed: int, c: float, sign: int) -> None:
        model = random_model(options(sublayers="sfs", biases=True), seed)

        def rescale(other: Transformer) -> None:
            for n, sublayer in enumerate(other.attention_sublayers()):
                sublayer.W_V[:, n] *= sign * c
                sublayer.b_V[n] *= sign * c
                sublayer.W_O[n] /= sign * c

        assert_same(of_model(changed(model, rescale)), of_model(model))

    @few_examples
    @given(seeds, st.sampled_from(["layernorm", "rmsnorm", "none"]), st.floats(-5, 5))
    def test_a_constant_on_every_logit(self, seed: int, norm: Any, size: float) -> None:
        model = random_model(options(sublayers="sfs", norm=norm), seed)

        def shift(other: Transformer) -> None:
            other.W_U += size * torch.randn(12, 1, generator=torch.Generator().manual_seed(seed))

        shifted, plain = of_model(changed(model, shift)), of_model(model)
        assert_same(shifted, plain, lambda label: label != "copying_eigenvalue_raw")

    @few_examples
    @given(seeds, st.booleans(), st.floats(-5, 5))
    def test_a_constant_on_every_embedding(self, seed: int, smeared: bool, size: float) -> None:
        """What a feed-forward sublayer makes of the embedding does depend on it."""
        model = random_model(options(sublayers="sfs", smeared_keys=smeared), seed)

        def shift(other: Transformer) -> None:
            other.W_E += size * torch.randn(12, generator=torch.Generator().manual_seed(seed))

        shifted, plain = of_model(changed(model, shift)), of_model(model)
        assert_same(shifted, plain, lambda label: not label.endswith(("_raw", "_effective")))

    @few_examples
    @given(seeds)
    def test_what_every_layernorm_takes_away(self, seed: int) -> None:
        """A constant along the features of what a head writes is read by nobody."""
        model = random_model(options(sublayers="sfs", norm="layernorm"), seed)

        def shift(other: Transformer) -> None:
            for sublayer in other.attention_sublayers():
                sublayer.W_O += torch.randn(3, 6, 1, generator=torch.Generator().manual_seed(seed))

        tokens = torch.arange(T)[None]
        torch.testing.assert_close(changed(model, shift)(tokens), model(tokens), atol=1e-3, rtol=1e-3)
        assert_same(of_model(changed(model, shift)), of_model(model))

    @few_examples
    @given(seeds)
    def test_the_basis_of_the_residual_stream_in_folded_matrices(self, seed: int) -> None:
        model = random_model(options(sublayers="sfs", norm="layernorm", biases=True), seed)
        folded, R = fold(model), orthogonal(seed).double()
        assert folded.W_E_effective is not None
        rotated = replace(
            folded,
            W_Q=R.T @ folded.W_Q,
            W_K=R.T @ folded.W_K,
            W_V=R.T @ folded.W_V,
            W_O=folded.W_O @ R,
            W_E=folded.W_E @ R,
            W_U=R.T @ folded.W_U,
            W_E_effective=folded.W_E_effective @ R,
        )
        weights = weights_of(model)
        assert_same(weight_measures(rotated, weights), weight_measures(folded, weights))

    @few_examples
    @given(seeds, st.sampled_from(["rmsnorm", "none"]))
    def test_the_basis_of_the_residual_stream_in_a_whole_model(self, seed: int, norm: Any) -> None:
        model, R = random_model(options(sublayers="sfs", norm=norm), seed), orthogonal(seed)
        if norm == "rmsnorm":
            model = changed(model, lambda other: [p.fill_(1) for n, p in other.named_parameters() if "gain" in n])  # pyright: ignore

        def rotate(other: Transformer) -> None:
            other.W_E.copy_(other.W_E @ R)
            other.W_U.copy_(R.T @ other.W_U)
            for sublayer in other.sublayers:
                if isinstance(sublayer, FeedForward):
                    sublayer.W_in.copy_(R.T @ sublayer.W_in)
                    sublayer.W_out.copy_(sublayer.W_out @ R)
                else:
                    for weight in (sublayer.W_Q, sublayer.W_K, sublayer.W_V):
                        weight.copy_(torch.einsum("de,dhk->ehk", R, weight))
                    sublayer.W_O.copy_(sublayer.W_O @ R)

        assert_same(of_model(changed(model, rotate)), of_model(model))


def orthogonal(seed: int) -> Tensor:
    return torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(seed + 1)))[0]


class TestCentring:
    """What changes no prediction is fixed, and E21's raw form kept beside it."""

    def test_a_constant_on_every_logit_moves_the_raw_copying_score(self) -> None:
        model = random_model(options(sublayers="ss", norm="none"))
        shifted = changed(model, lambda other: other.W_U.add_(3 * torch.randn(12, 1)))
        before, after = (copying_eigenvalue(fold(m))["copying_eigenvalue_raw"] for m in (model, shifted))
        assert max(abs(before[head] - after[head]) for head in before) > 0.1

    def test_a_constant_on_every_embedding_moves_the_raw_matching_score(self) -> None:
        model = random_model(options(sublayers="ss", norm="none"))
        shifted = changed(model, lambda other: other.W_E.add_(3 * torch.randn(12)))
        before, after = (qk_terms(fold(m), weights_of(m))["qk_eigenvalue_raw"] for m in (model, shifted))
        assert max(abs(before[head] - after[head]) for head in before) > 0.1

    def test_centring_both_sides_is_centring_one(self) -> None:
        folded = fold(random_model(options(sublayers="ss")))
        both = replace(folded, W_E=folded.W_E - folded.W_E.mean(0))
        name = "copying_eigenvalue"
        assert copying_eigenvalue(both)[name] == pytest.approx(copying_eigenvalue(folded)[name])
        # and then there is nothing left that the raw form could see more of
        assert copying_eigenvalue(both)[f"{name}_raw"] == pytest.approx(copying_eigenvalue(folded)[name])


class TestAgainstTheModelsOwnScores:
    """Terms are what the pre-softmax scores of real forward passes consist of."""

    def test_the_mean_rotation_is_that_of_real_queries_and_keys(self) -> None:
        """One query token at the end, one key token before it: the mean over distances 1 … T/2 of their score."""
        model = random_model(options(sublayers="s", positions="rotary", norm="none"), seed=2)
        folded = fold(model)
        assert folded.rotation is not None
        for n, (_, head) in enumerate(folded.heads):
            W_QK = folded.W_Q[n] @ folded.rotation @ folded.W_K[n].T
            for query, key in ((3, 5), (5, 3), (4, 4)):
                tokens = torch.full((1, T), key)
                tokens[0, -1] = query
                scores = scores_of(model, tokens)[0][0, head, -1, T - 1 - T // 2 : T - 1]
                expected = float(folded.W_E[query] @ W_QK @ folded.W_E[key])
                assert float(scores.mean()) * math.sqrt(6) == pytest.approx(expected, rel=1e-4, abs=1e-4)

    def test_distances_end_at_half_the_context(self) -> None:
        rotary = fold(random_model(options(sublayers="s", positions="rotary"))).rotation
        assert rotary is not None
        expected = np.mean([rotation(d, 6, 10_000.0) for d in (1, 2, 3, 4)], axis=0)  # T = 9
        np.testing.assert_allclose(rotary.numpy(), expected, atol=1e-6)

    @pytest.mark.parametrize("smeared", [False, True])
    def test_the_trace_through_an_earlier_head_is_the_score_of_a_repeated_token(self, smeared: bool) -> None:
        """Token 0 is nothing; L0H1 brings token t from position 1 to the key at 2; the query at 4 is t again."""
        clamp = Clamp(layer=0, head=1, kind="previous", strength=1e4)
        model = random_model(
            options(sublayers="ss", positions="none", norm="none", smeared_keys=smeared, clamps=(clamp,))
        )
        with torch.no_grad():
            model.W_E[0] = 0
            first = next(model.attention_sublayers())
            first.W_O[[0, 2]] = 0
        folded = fold(model)
        found = qk_terms(folded, np.array([[0.9, 1, 0.9], [0, 0, 0]]))["qk_trace_raw"]
        matched = torch.zeros(3, dtype=torch.float64)
        for token in range(1, V):
            # the tokens between are nothing, and what is brought to position 1 and 3 is too
            scores = scores_of(model, torch.tensor([[0, token, 0, 0, 0, token]]))[1][0, :, 5]
            matched += scores[:, 2].double() * math.sqrt(6)
            if smeared:  # the key at 2 also keeps a share of the key at 1, the token itself
                direct = model.W_E[token].double()
                for head, n in (((1, h), folded.heads.index((1, h))) for h in range(3)):
                    assert folded.keep is not None
                    own = direct @ folded.W_Q[n] @ folded.W_K[n].T @ direct
                    matched[head[1]] -= (1 - folded.keep[n]) * own.detach()
        assert [found[1, h] for h in range(3)] == pytest.approx(matched.tolist(), rel=1e-3, abs=1e-3)

    def test_the_trace_of_a_shifted_key_is_the_score_of_the_token_before_it(self) -> None:
        model = random_model(options(sublayers="s", positions="none", norm="none", smeared_keys=True))
        with torch.no_grad():
            model.W_E[0] = 0
        found = qk_terms(fold(model), np.zeros((1, 3)))["qk_trace_shifted_key_raw"]
        matched = sum(scores_of(model, torch.tensor([[t, 0, 0, t]]))[0][0, :, 3, 1] for t in range(1, V))
        assert [found[0, h] for h in range(3)] == pytest.approx((math.sqrt(6) * matched).tolist(), rel=1e-4, abs=1e-4)


@torch.no_grad()
def scores_of(model: Transformer, tokens: Tensor) -> list[Tensor]:
    scores: list[Tensor] = []

    def at(site: Site, tensor: Tensor) -> None:
        scores.append(tensor)

    model(tokens, Tap(frozenset({"scores"}), at))
    return scores


def test_copying_of_random_weights_is_near_nothing() -> None:
    model = Transformer(ModelOptions(sublayers="ss", d_model=64, n_heads=4), 200, T)
    values = copying_eigenvalue(fold(model))["copying_eigenvalue"].values()
    assert max(map(abs, values)) < 0.5
    assert abs(float(np.mean(list(values)))) < 0.2


def test_smear_is_what_keys_keep() -> None:
    model = random_model(options(sublayers="sfs", smeared_keys=True))
    found = smear(model)["smear"]
    assert len(found) == 6
    for (layer, head), value in found.items():
        alpha = list(model.attention_sublayers())[layer].alpha
        assert alpha is not None
        assert value == pytest.approx(1 / (1 + math.exp(-alpha[head].item())))


def test_folding_leaves_the_model_and_its_gradients_alone() -> None:
    model = random_model(options(sublayers="sfs"))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    folded = fold(model)
    assert not folded.W_E.requires_grad
    folded.W_E.zero_()
    folded.W_Q.zero_()
    folded.W_U.zero_()
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
