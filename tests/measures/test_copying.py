"""`copying_logit` and its probe: naive loops, what must not matter, and positions that say nothing."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from induction_bump.measures import batches
from induction_bump.measures.copying import HeadEstimates, copying_logit
from induction_bump.measures.options import CopyingProbeOptions
from induction_bump.measures.probes import ProbeError, copying_probe
from induction_bump.measures.statistics import NotFiniteError
from induction_bump.model.options import Clamp, ModelOptions
from induction_bump.model.transformer import FeedForward, Transformer
from tests.measures.corpus import SmallCorpus
from tests.measures.naive_circuits import naive_copying_logit
from tests.measures.random_models import T, V, changed
from tests.measures.random_models import random_model as strong_model
from tests.model.variants import VARIANTS, options

WIDE = (0.0, 1.0)
"""Quantiles between which every token is eligible."""

seeds = st.integers(0, 2**20)
few_examples = settings(max_examples=15, deadline=None)


def random_model(model: ModelOptions, seed: int = 0) -> Transformer:
    """Scores small enough that no attention vanishes in float32, where a share of it would be rounding."""
    return strong_model(model, seed, spread=0.1)


def sequences(tokens: int = 6, count: int = 3, vocab_size: int = V, seed: int = 0) -> np.ndarray:
    chosen = CopyingProbeOptions(sequences=count, tokens=tokens, seed=seed)
    return copying_probe(SmallCorpus(vocab_size), 64, chosen, WIDE).tokens


def assert_close(found: HeadEstimates, expected: HeadEstimates, tolerance: float = 1e-5) -> None:
    assert {label: set(heads) for label, heads in found.items()} == {k: set(heads) for k, heads in expected.items()}
    for label, heads in expected.items():
        for head, estimate in heads.items():
            assert found[label][head] == pytest.approx(estimate, abs=tolerance), (label, head)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_the_shares_of_loops_over_whole_logits(name: str) -> None:
    model, tokens = random_model(VARIANTS[name]), sequences()
    found = copying_logit(model, tokens)
    expected = naive_copying_logit(model, tokens) if model.options.n_attention else {}
    assert_close(found.heads, expected)
    assert found.chance == pytest.approx(4 / 6 - 1)


def test_so_it_is_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = random_model(options(sublayers="sfs")), sequences(count=7)
    whole = copying_logit(model, tokens)
    monkeypatch.setattr(batches, "TOKENS_AT_ONCE", 15)
    assert_close(copying_logit(model, tokens).heads, whole.heads, 1e-6)


def test_random_weights_are_near_chance() -> None:
    model = Transformer(ModelOptions(sublayers="ss", d_model=64, n_heads=4, norm="rmsnorm"), 400, 32)
    found = copying_logit(model, sequences(25, 32, 400))
    assert found.chance == pytest.approx(-0.84)
    for value, stderr in found.heads["copying_logit"].values():
        assert value == pytest.approx(found.chance, abs=0.03)
        assert stderr is not None
        assert 0 < stderr < 0.03


class TestWhatMustNotMatter:
    """Changes of the weights that say the same."""

    @few_examples
    @given(seeds, st.permutations(range(3)))
    def test_permuting_heads_permutes_values(self, seed: int, order: list[int]) -> None:
        model, tokens = random_model(options(sublayers="sf", smeared_keys=True, biases=True), seed), sequences()

        def permute(other: Transformer) -> None:
            only = next(other.attention_sublayers())
            for weight in (only.W_Q, only.W_K, only.W_V):
                weight.copy_(weight[:, order].clone())
            for weight in (only.W_O, only.b_Q, only.b_K, only.b_V, only.alpha):
                weight.copy_(weight[order].clone())

        before, after = copying_logit(model, tokens).heads, copying_logit(changed(model, permute), tokens).heads
        moved = {label: {(0, order[h]): value for (_, h), value in heads.items()} for label, heads in after.items()}
        assert_close(moved, before)

    @few_examples
    @given(seeds, st.floats(0.1, 10))
    def test_what_values_gain_and_outputs_lose(self, seed: int, c: float) -> None:
        model, tokens = random_model(options(sublayers="sfs", biases=True), seed), sequences()

        def rescale(other: Transformer) -> None:
            for n, sublayer in enumerate(other.attention_sublayers()):
                sublayer.W_V[:, n] *= c
                sublayer.b_V[n] *= c
                sublayer.W_O[n] /= c

        assert_close(copying_logit(changed(model, rescale), tokens).heads, copying_logit(model, tokens).heads, 1e-4)

    @few_examples
    @given(seeds, st.sampled_from(["layernorm", "rmsnorm", "none"]), st.floats(-3, 3))
    def test_a_constant_on_every_logit(self, seed: int, norm: Any, size: float) -> None:
        model, tokens = random_model(options(sublayers="sfs", norm=norm), seed), sequences()

        def shift(other: Transformer) -> None:
            other.W_U += size * torch.randn(12, 1, generator=torch.Generator().manual_seed(seed))

        assert_close(copying_logit(changed(model, shift), tokens).heads, copying_logit(model, tokens).heads, 1e-4)

    @few_examples
    @given(seeds)
    def test_the_basis_of_the_residual_stream(self, seed: int) -> None:
        model, tokens = random_model(options(sublayers="sfs", norm="none"), seed), sequences()
        R = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(seed)))[0]

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

        assert_close(copying_logit(changed(model, rotate), tokens).heads, copying_logit(model, tokens).heads, 1e-3)


class TestPositionsWithoutRaise:
    """They are left out and counted; a head of which none is left has no score."""

    def test_a_head_that_writes_nothing_has_only_the_share_left_out(self) -> None:
        model = random_model(options(sublayers="s"))
        with torch.no_grad():
            model.sublayers[0].W_O[1] = 0
        found = copying_logit(model, sequences()).heads
        assert found["copying_logit_left_out"][0, 1] == (1, 0)
        assert set(found["copying_logit"]) == set(found["copying_logit_share"]) == {(0, 0), (0, 2)}

    def test_nor_has_one_that_a_clamp_holds_at_zero(self) -> None:
        clamp = Clamp(layer=0, head=2, kind="zero")
        found = copying_logit(random_model(options(sublayers="s", clamps=(clamp,))), sequences()).heads
        assert found["copying_logit_left_out"][0, 2][0] == 1
        assert set(found["copying_logit"]) == {(0, 0), (0, 1)}

    def test_all_heads_may_be_left_out(self) -> None:
        model = random_model(options(sublayers="ss"))
        with torch.no_grad():
            for sublayer in model.attention_sublayers():
                sublayer.W_O.zero_()
        assert set(copying_logit(model, sequences()).heads) == {"copying_logit_left_out"}

    def test_a_head_that_raises_what_is_not_in_the_sample_is_left_out_there(self) -> None:
        """It raises token 1 alone, at every position: what counts are the sequences with token 1."""
        model = random_model(options(sublayers="s", norm="none", positions="none"))
        with torch.no_grad():
            only = next(model.attention_sublayers())
            model.W_E[:, 0] = 1
            only.W_V.zero_()
            only.W_V[0] = 1
            only.W_O.zero_()
            only.W_O[:, :, 0] = 1
            model.W_U[0] = -1
            model.W_U[0, 1] = 9
        tokens = np.array([[0, 2, 3, 4, 5], [0, 6, 1, 7, 8], [0, 8, 9, 10, 1]])
        found = copying_logit(model, tokens).heads
        expected = naive_copying_logit(model, tokens)
        for head in range(3):
            assert found["copying_logit_left_out"][0, head][0] == pytest.approx(1 / 3)
        assert_close(found, expected)
        # one sequence has no spread
        alone = copying_logit(model, tokens[:2]).heads
        assert alone["copying_logit_left_out"][0, 0][0] == pytest.approx(1 / 2)
        assert {alone[label][0, 0][1] for label in ("copying_logit", "copying_logit_share")} == {None}


class TestDegenerateInput:
    """What cannot be scored is an error."""

    def test_a_token_that_comes_twice(self) -> None:
        with pytest.raises(ValueError, match="no token comes twice"):
            copying_logit(random_model(options(sublayers="s")), np.array([[0, 1, 2, 3, 1], [0, 1, 2, 3, 4]]))

    def test_a_model_that_is_no_longer_finite(self) -> None:
        for weight in ("W_E", "W_U"):
            model = random_model(options(sublayers="s"))
            with torch.no_grad():
                getattr(model, weight)[0] = torch.nan
            with pytest.raises(NotFiniteError, match="not finite"):
                copying_logit(model, sequences())

    def test_one_sequence_has_no_standard_error(self) -> None:
        with pytest.raises(ValueError, match="at least two independent examples"):
            copying_logit(random_model(options(sublayers="s")), sequences()[:1])


class TestProbe:
    """BOS and distinct tokens, drawn from a seed of the probe's own."""

    def test_no_token_comes_twice(self) -> None:
        tokens = copying_probe(SmallCorpus(101), 64, CopyingProbeOptions(), (0.1, 0.9)).tokens
        assert tokens.shape == (64, 26)
        assert (tokens[:, 0] == 0).all()
        assert all(len(set(row.tolist())) == 26 for row in tokens)
        assert set(np.unique(tokens[:, 1:])) == set(range(11, 91))  # token v has frequency ∝ 1/v
        assert len(np.unique(tokens, axis=0)) == 64

    def test_it_is_as_long_as_context_and_pool_allow(self) -> None:
        def length(vocab_size: int, context: int) -> int:
            return copying_probe(SmallCorpus(vocab_size), context, CopyingProbeOptions(), WIDE).tokens.shape[1]

        assert length(200, 256) == 26
        assert length(200, 20) == 20  # BOS is one of the positions that the model can read
        assert length(10, 256) == 10
        with pytest.raises(ProbeError, match=r"context of 4 .*leave 3 tokens after BOS, and at least 4"):
            length(200, 4)
        with pytest.raises(ProbeError, match="3 eligible tokens leave 3 tokens"):
            length(4, 256)

    def test_the_model_can_read_the_longest(self) -> None:
        probe = copying_probe(SmallCorpus(V, T), T, CopyingProbeOptions(sequences=2), WIDE)
        assert probe.tokens.shape == (2, T)
        copying_logit(random_model(options(sublayers="s")), probe.tokens)

    def test_it_depends_on_its_own_seed_alone(self) -> None:
        chosen = CopyingProbeOptions(sequences=4)
        a, b = (copying_probe(SmallCorpus(), 24, chosen, WIDE) for _ in range(2))
        assert a.hash == b.hash != copying_probe(SmallCorpus(), 24, replace(chosen, seed=5), WIDE).hash
