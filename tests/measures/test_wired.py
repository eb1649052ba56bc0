"""What heads attend to and what their weights say, on models wired by hand: the values are those of theory.

Each is derived where it is stated; `wired_rules` has the texts and the losses.
"""

import math

import numpy as np
import pytest
import torch

from induction_bump.measures.circuits import copying_eigenvalue, qk_terms, smear
from induction_bump.measures.composition import composition
from induction_bump.measures.copying import copying_logit
from induction_bump.measures.folding import DegenerateError, fold
from induction_bump.measures.heads import text_lookup
from induction_bump.measures.losses import copy_losses
from induction_bump.measures.reading import read
from induction_bump.model.transformer import Transformer
from tests.measures.wired import (
    CERTAIN,
    READS,
    SHARP,
    WRITES,
    composing_model,
    copying_model,
    induction_model,
    skip_trigram_model,
    smeared_induction_model,
    virtual_head_model,
)
from tests.measures.wired_rules import (
    CUES,
    RIGHT,
    T,
    V,
    distinct,
    losses_of,
    periodic,
    raised,
    repeats,
    skip_trigram_text,
)


def scores(model: Transformer, copies: int = 2) -> dict[str, np.ndarray]:
    """Head scores on repeats: name → layers × H."""
    probe = repeats(copies)
    return {name: s.mean(0) for name, s in read(model, probe.tokens, probe.lookup, losses=False).scores.items()}


def text_scores(model: Transformer) -> dict[str, np.ndarray]:
    """Head scores on random text without repeats: name → layers × H."""
    tokens = distinct()
    lookup = text_lookup(*tokens.shape)
    return {name: s.mean(0) for name, s in read(model, tokens, lookup, losses=False).scores.items()}


def leave_out(error: DegenerateError) -> None:
    """Idle heads have nothing to say."""


def ordered_copy_advantage(model: Transformer) -> np.ndarray:
    """Of each sequence of the probe of repeats."""
    probe = repeats()
    true, permuted = (
        copy_losses(read(model, tokens).losses.astype(np.float64), probe.blocks, 2)
        for tokens in (probe.tokens, probe.shuffled)
    )
    return permuted - true


class TestTwoLayerInduction:
    """(a) L0H1 attends to the previous token, L1H0 is the induction head."""

    model = induction_model(V, T)
    """The weights of L0H0 and L1H1 are all 0."""

    @pytest.mark.parametrize("copies", [2, 4])
    def test_attention_of_the_induction_head_lies_on_the_successor_of_the_earlier_occurrence(self, copies: int) -> None:
        found = scores(self.model, copies)
        assert found["prefix_matching"][1, 0] >= 0.999
        assert found["prefix_matching_off_by_one"][1, 0] <= 1e-3
        assert found["duplicate_token"][1, 0] <= 1e-3

    def test_attention_of_the_previous_token_head_lies_on_the_previous_token(self) -> None:
        found = text_scores(self.model)
        assert found["previous_token"][0, 1] >= 0.999
        # all of its attention is there, so that no score that looks elsewhere finds any
        assert scores(self.model)["prefix_matching"][0, 1] <= 1e-3

    def test_losses_are_those_of_the_rule(self) -> None:
        probe = repeats()
        second_copy = copy_losses(read(self.model, probe.tokens).losses, probe.blocks, 2)
        np.testing.assert_allclose(second_copy, RIGHT, atol=1e-5)
        np.testing.assert_allclose(ordered_copy_advantage(self.model), CERTAIN, atol=1e-4)

    def test_the_induction_head_is_in_the_corner_of_copying_and_matching(self) -> None:
        """W_E W_OV W_U = 20 · I, whose centred eigenvalues are 20 (V − 1 times) and 0: all of Σ|λ| is Σλ.

        T(L1H0, L0H1) = SHARP · I likewise, of trace SHARP · (V − 1) when centred; L0H1 has previous_token = 1.
        """
        previous = text_scores(self.model)["previous_token"]
        copying = copying_eigenvalue(fold(self.model), leave_out)
        matching = qk_terms(fold(self.model), previous, leave_out)
        for form in ("", "_raw"):
            assert copying[f"copying_eigenvalue{form}"] == {(1, 0): pytest.approx(1, abs=1e-6)}
            assert matching[f"qk_eigenvalue{form}"] == {(1, 0): pytest.approx(1, abs=1e-6)}
        assert matching["qk_trace"][1, 0] == pytest.approx(SHARP * (V - 1), rel=1e-6)
        assert matching["qk_trace_raw"][1, 0] == pytest.approx(SHARP * V, rel=1e-6)

    @pytest.mark.parametrize("weights", [(0.1, 0.7), (0.6, 0.3)])
    def test_earlier_heads_count_by_how_far_they_attend_to_the_previous_token(
        self, weights: tuple[float, float]
    ) -> None:
        """A rival L0H0 brings half as much of the token, with the sign reversed: T(L1H0, L0H0) = −SHARP/2 · I.

        The trace is the sum of both by their weights, the eigenvalue that of the head with the larger weight.
        """
        model = induction_model(V, T)
        first = next(model.attention_sublayers())
        with torch.no_grad():
            first.W_V[:, 0] = -first.W_V[:, 1] / 2
            first.W_O[0] = first.W_O[1]
        found = qk_terms(fold(model), np.array([weights, (9.0, 9.0)]), leave_out)
        rival, previous = weights
        assert found["qk_trace"][1, 0] == pytest.approx((previous - rival / 2) * SHARP * (V - 1), rel=1e-6)
        assert found["qk_eigenvalue"][1, 0] == pytest.approx(1 if previous > rival else -1, abs=1e-6)

    def test_a_head_that_says_nothing_has_no_copying_eigenvalue(self) -> None:
        """What the previous-token head writes is not read by W_U."""
        told: list[DegenerateError] = []
        found = copying_eigenvalue(fold(self.model), told.append)
        assert found["copying_eigenvalue"].keys() == {(1, 0)}
        assert "copying_eigenvalue of L0H1: all eigenvalues are 0" in map(str, told)

    def test_composition_is_through_keys(self) -> None:
        """W_OV^{L0H1} and W_QK^{L1H0} are both V directions of equal strength, each into the next.

        So ‖W_OV W_QKᵀ‖ / (‖W_OV‖ ‖W_QK‖) = √V · SHARP / (√V · √V SHARP) = 1/√V, more than the 1/√D of random factors
        as D = 3V + T; the other two products are 0.
        """
        found = composition(fold(self.model), undefined=leave_out)
        ratio = {str(kind): v + b for kind, v, b in zip(found.kind, found.value, found.baseline, strict=True)}
        assert ratio == {"q": pytest.approx(0), "k": pytest.approx(1 / math.sqrt(V), rel=1e-6), "v": pytest.approx(0)}
        value = dict(zip(found.kind.tolist(), found.value, strict=True))
        assert value["k"] > found.baseline[0]
        assert max(value["q"], value["v"]) < 0

    def test_its_copying_logit_is_that_of_uniform_attention(self) -> None:
        """Without a repeat the induction head matches nothing: the query i sees the positions 0 … i alike.

        Its tokens are all raised alike, and each is attended to, so that of the raise on i tokens the share 1/i falls
        on the one that is looked at. The trap of this measure: the purest induction head does not score as copying.
        """
        found = copying_logit(self.model, distinct())
        share = np.mean([1 / i for i in range(1, 26)])
        assert found.heads["copying_logit_share"][1, 0][0] == pytest.approx(share, abs=1e-4)
        assert found.heads["copying_logit"][1, 0][0] == pytest.approx(4 * share - 1, abs=4e-4)


class TestSmearedInduction:
    """(b) One layer: the key at j is that of token j − 1."""

    model = smeared_induction_model(V, T)

    @pytest.mark.parametrize("copies", [2, 4])
    def test_one_layer_matches_prefixes(self, copies: int) -> None:
        found = scores(self.model, copies)
        assert found["prefix_matching"][0, 0] >= 0.999
        assert found["prefix_matching_off_by_one"][0, 0] <= 1e-3
        assert found["duplicate_token"][0, 0] <= 1e-3

    def test_losses_are_those_of_the_rule(self) -> None:
        probe = repeats()
        second_copy = copy_losses(read(self.model, probe.tokens).losses, probe.blocks, 2)
        np.testing.assert_allclose(second_copy, RIGHT, atol=1e-5)
        np.testing.assert_allclose(ordered_copy_advantage(self.model), CERTAIN, atol=1e-4)

    def test_without_smear_the_same_weights_look_for_the_token_itself(self) -> None:
        """The query then finds two keys, its own and the earlier occurrence, half of the attention each."""
        found = scores(smeared_induction_model(V, T, alpha=20.0))
        assert found["duplicate_token"][0, 0] == pytest.approx(1 / 2, abs=1e-4)
        assert found["prefix_matching"][0, 0] == pytest.approx(0, abs=1e-4)

    def test_smeared_by_half_they_find_three_keys(self) -> None:
        """Half of t_i's key is in the keys at i, at its earlier occurrence and one after: a third each."""
        found = scores(smeared_induction_model(V, T, alpha=0.0))
        assert found["duplicate_token"][0, 0] == pytest.approx(1 / 3, abs=1e-4)
        assert found["prefix_matching"][0, 0] == pytest.approx(1 / 3, abs=1e-4)

    @pytest.mark.parametrize("alpha", [-20.0, 1.5])
    def test_the_shifted_key_matches_without_an_earlier_head(self, alpha: float) -> None:
        """W_E W_QK W_Eᵀ = SHARP · I, of which the shifted key has the share 1 − σ(α)."""
        model = smeared_induction_model(V, T, alpha)
        kept = 1 / (1 + math.exp(-alpha))
        assert smear(model) == {"smear": {(0, 0): pytest.approx(kept, rel=1e-6)}}
        found = qk_terms(fold(model), np.zeros((1, 1)))
        assert found.keys() == {"qk_trace_shifted_key", "qk_trace_shifted_key_raw"}
        assert found["qk_trace_shifted_key"][0, 0] == pytest.approx((1 - kept) * SHARP * (V - 1), rel=1e-6)
        assert found["qk_trace_shifted_key_raw"][0, 0] == pytest.approx((1 - kept) * SHARP * V, rel=1e-6)

    def test_it_copies(self) -> None:
        for value in copying_eigenvalue(fold(self.model)).values():
            assert value == {(0, 0): pytest.approx(1, abs=1e-6)}


class TestCopyingAndAntiCopying:
    """(c) H0 copies the token at i − 1, H1 lowers the token at i − 2."""

    model = copying_model(V, T)

    def test_eigenvalues_are_all_positive_or_all_negative(self) -> None:
        for value in copying_eigenvalue(fold(self.model)).values():
            assert value == {(0, 0): pytest.approx(1, abs=1e-6), (0, 1): pytest.approx(-1, abs=1e-6)}

    def test_all_or_none_of_the_raise_is_on_the_token_that_is_attended_to(self) -> None:
        """H0 raises what it attends to and nothing else: s = 1, score 3. H1 raises everything else: s = 0, score −1.

        BOS is no part of the sample: where a head rests on it (query 1 of H0, queries 1 and 2 of H1), it is left out.
        """
        found = copying_logit(self.model, distinct()).heads
        assert found["copying_logit"][0, 0] == (pytest.approx(3, abs=1e-5), pytest.approx(0, abs=1e-5))
        assert found["copying_logit"][0, 1] == (pytest.approx(-1, abs=1e-5), pytest.approx(0, abs=1e-5))
        assert found["copying_logit_left_out"][0, 0][0] == pytest.approx(1 / 25)
        assert found["copying_logit_left_out"][0, 1][0] == pytest.approx(2 / 25)

    def test_each_attends_as_far_back_as_it_was_wired_to(self) -> None:
        found = text_scores(self.model)
        np.testing.assert_allclose(found["previous_token"], [[1, 0]], atol=1e-5)
        # of the queries 1 … 25 the first of H0 and the first two of H1 have nothing but position 0 that far back
        np.testing.assert_allclose(found["first_token"], [[1 / 25, 2 / 25]], atol=1e-5)

    def test_logits_are_the_sum_of_what_both_say(self) -> None:
        """On a b a b …, a, the token at i − 1, is raised by 20, and b, the one at i − 2, lowered by 20."""
        tokens = periodic(2)
        losses = read(self.model, tokens).losses
        np.testing.assert_allclose(losses, losses_of(raised(tokens, 1) - raised(tokens, 2), tokens), atol=1e-5)
        expected = math.log(math.exp(CERTAIN) + math.exp(-CERTAIN) + V - 2) - CERTAIN
        np.testing.assert_allclose(losses[:, 2:], expected, atol=1e-5)


class TestSkipTrigrams:
    """(d) A … B → C: the head attends from B back to A and writes C."""

    model = skip_trigram_model(V, T, CUES)

    def test_it_is_right_where_its_skip_trigram_occurs_and_silent_elsewhere(self) -> None:
        tokens, forced = skip_trigram_text()
        assert 0.02 < forced.mean() < 0.2
        np.testing.assert_allclose(read(self.model, tokens).losses, np.where(forced, RIGHT, math.log(V)), atol=1e-5)

    def test_it_neither_copies_nor_anti_copies(self) -> None:
        """W_E W_OV W_U is 20 times a cycle through the n = V − 1 tokens that are not BOS.

        Its eigenvalues are the n-th roots of unity, whose sum is 0. Centred, the one that belongs to the vector of ones
        shrinks from 1 to 1 − n/V = 1/V, which leaves Σλ = 1/V − 1 and Σ|λ| = n − 1 + 1/V, a ratio of −1/(V − 1).
        """
        found = copying_eigenvalue(fold(self.model))
        assert found["copying_eigenvalue_raw"][0, 0] == pytest.approx(0, abs=1e-6)
        assert found["copying_eigenvalue"][0, 0] == pytest.approx(-1 / (V - 1), abs=1e-6)

    def test_it_never_raises_what_it_attends_to(self) -> None:
        found = copying_logit(self.model, distinct()).heads
        assert found["copying_logit"][0, 0][0] == pytest.approx(-1, abs=1e-5)
        # at most the four triggers of a sample of 25 can count
        assert found["copying_logit_left_out"][0, 0][0] >= 1 - 4 / 25

    def test_prefixes_match_by_chance_alone(self) -> None:
        """A query B attends to all its cues A alike, and matches where one happened to follow the earlier B."""
        probe = repeats()
        expected: list[float] = []
        for sequence, n in zip(probe.tokens.tolist(), probe.blocks.tolist(), strict=True):
            hits: list[float] = []
            for i in range(n + 1, 2 * n + 1):
                cue = CUES.get(sequence[i])
                there = [j for j in range(i + 1) if sequence[j] == cue]
                hits.append((i - n + 1 in there) / len(there) if there else 0.0)
            expected.append(float(np.mean(hits)))
        found = read(self.model, probe.tokens, probe.lookup).scores["prefix_matching"][:, 0, 0]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert found.mean() < 0.02
        assert scores(self.model)["duplicate_token"][0, 0] < 0.02


class TestComposition:
    """(e) L1H0 reads what L0H1 writes with its queries, L1H1 with its keys, L1H2 with its values."""

    def test_each_composes_in_its_own_kind_and_in_no_other(self) -> None:
        """With matrices of singular values a and b along the same four directions the ratio is ‖ab‖ / (‖a‖ ‖b‖).

        Every other product is 0, which is as far below the baseline as there is.
        """
        found = composition(fold(composing_model()))
        composed = float((WRITES * READS).norm() / (WRITES.norm() * READS.norm()))
        seen = set()
        for *pair, kind, value, baseline in zip(
            found.layer_in,
            found.head_in,
            found.layer_out,
            found.head_out,
            found.kind,
            found.value,
            found.baseline,
            strict=True,
        ):
            early, head_in, late, head_out = map(int, pair)
            assert (early, late) == (0, 1)
            there = head_in == 1 and kind == "qkv"[head_out]
            assert value + baseline == pytest.approx(composed if there else 0, abs=1e-7)
            assert (value > 3 * baseline) if there else (value <= 0)
            seen.add((head_in, head_out, str(kind)))
        assert len(seen) == len(found.kind) == 3 * 3 * 3

    def test_random_factors_of_these_shapes_have_the_baseline(self) -> None:
        """Its root mean square is 1/√D exactly, and the ratio varies little: D = 64 gives an eighth."""
        assert composition(fold(composing_model())).baseline[0] == pytest.approx(1 / 8, rel=0.05)

    def test_a_virtual_head_composes_through_values(self) -> None:
        """Two moves of V directions of equal strength, one into the next: 1/√V, and no other kind."""
        found = composition(fold(virtual_head_model(V, T)), undefined=leave_out)
        ratio = {str(kind): v + b for kind, v, b in zip(found.kind, found.value, found.baseline, strict=True)}
        assert ratio["v"] == pytest.approx(1 / math.sqrt(V), rel=1e-6)
        # its queries and keys read positions, which L0H1 does not write
        assert (ratio["q"], ratio["k"]) == (pytest.approx(0), pytest.approx(0))


class TestVirtualHead:
    """L1H0 moves on what L0H1 brought."""

    def test_the_token_three_back_follows(self) -> None:
        tokens = periodic(4)
        losses = read(virtual_head_model(V, T), tokens).losses
        np.testing.assert_allclose(losses, losses_of(raised(tokens, 2, 1), tokens), atol=1e-5)
        np.testing.assert_allclose(losses[:, 3:], RIGHT, atol=1e-5)
