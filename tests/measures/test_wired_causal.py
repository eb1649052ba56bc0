"""What ablations and single paths change in models wired by hand: the losses are those of theory.

Ablations are defined in docs/measures/definitions.md#interventions.
"""

import math

import numpy as np
import pytest

from induction_bump.measures.ablation import Ablated, Head, Kind, ablate, every_head
from induction_bump.measures.causal import effects
from induction_bump.measures.groups import choose, matched_sets
from induction_bump.measures.losses import copy_losses
from induction_bump.measures.options import HeldOutOptions, IclOptions, MeasureOptions, RepeatsProbeOptions
from induction_bump.measures.paths import path_order
from induction_bump.measures.probes import Probes
from induction_bump.model.transformer import Transformer
from tests.measures.corpus import SmallCorpus
from tests.measures.wired import (
    CERTAIN,
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
    losses_of,
    periodic,
    raised,
    raised_alike,
    repeats,
    skip_trigram_text,
)

KINDS: tuple[Kind, ...] = ("zero", "mean", "pattern_preserving")
SILENT = math.log(V)
"""Loss of equal logits."""
INDUCTION, PREVIOUS = frozenset([(1, 0)]), frozenset([(0, 1)])


def ablated(model: Transformer, tokens: np.ndarray, *heads: Head, kind: Kind = "zero") -> np.ndarray:
    """Losses with the heads ablated together."""
    return ablate(model, tokens, [frozenset(heads)], [kind]).changed[kind, frozenset(heads)]


def of_repeats(model: Transformer) -> tuple[Ablated, Ablated]:
    """Every head of the model ablated, on the true and on the permuted copy."""
    probe = repeats()
    true, permuted = (ablate(model, tokens, every_head(model), KINDS) for tokens in (probe.tokens, probe.shuffled))
    return true, permuted


def ordered_copy_advantage(true: np.ndarray, permuted: np.ndarray) -> np.ndarray:
    second, other = (copy_losses(losses.astype(np.float64), repeats().blocks, 2) for losses in (true, permuted))
    return other - second


class TestTwoLayerInduction:
    """The classic discrimination: what a head is for, its pattern or its values."""

    model = induction_model(V, T)

    @pytest.mark.parametrize("kind", ["zero", "pattern_preserving"])
    def test_without_the_induction_head_nothing_is_said(self, kind: Kind) -> None:
        for ablation in of_repeats(self.model):
            np.testing.assert_allclose(ablation.changed[kind, INDUCTION], SILENT, atol=1e-5)

    def test_preserving_patterns_the_previous_token_head_is_not_needed(self) -> None:
        """All that it does is in the keys of the induction head, and so in a pattern that is kept."""
        for ablation in of_repeats(self.model):
            found = ablation.changed["pattern_preserving", PREVIOUS]
            np.testing.assert_allclose(found, ablation.intact, atol=1e-5)

    def test_without_it_the_induction_head_attends_to_everything_alike(self) -> None:
        """Every token it has seen is then raised, by how often it was seen.

        A token of the second copy has then been seen once, as many others of the block as in the permuted copy twice:
        the advantage of the order is gone, exactly.
        """
        probe, (true, permuted) = repeats(), of_repeats(self.model)
        expected = losses_of(raised_alike(probe.tokens), probe.tokens)
        np.testing.assert_allclose(true.changed["zero", PREVIOUS], expected, atol=1e-5)
        left = ordered_copy_advantage(true.changed["zero", PREVIOUS], permuted.changed["zero", PREVIOUS])
        np.testing.assert_allclose(left, 0, atol=1e-5)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("head", [(0, 0), (1, 1)])
    def test_idle_heads_change_nothing(self, head: Head, kind: Kind) -> None:
        for ablation in of_repeats(self.model):
            np.testing.assert_allclose(ablation.changed[kind, frozenset([head])], ablation.intact, atol=1e-5)

    def test_ablating_both_is_ablating_the_one_that_speaks(self) -> None:
        for kind in ("zero", "pattern_preserving"):
            np.testing.assert_allclose(
                ablated(self.model, repeats().tokens, (0, 1), (1, 0), kind=kind), SILENT, atol=1e-5
            )

    def test_the_mean_of_n_sequences_says_an_nth_of_each(self) -> None:
        """With other tokens at each position of n sequences, the right one has the logit 20/n, like n − 1 others."""
        n, block = 4, 9
        tokens = np.zeros((n, 1 + 2 * block), np.int64)
        for sequence in range(n):
            tokens[sequence, 1:] = 1 + (7 * sequence + np.tile(np.arange(block), 2)) % (V - 1)
        found = ablated(self.model, tokens, (1, 0), kind="mean")
        raise_ = CERTAIN / n
        expected = math.log(n * math.exp(raise_) + V - n) - raise_
        np.testing.assert_allclose(found[:, block + 1 :], expected, atol=1e-5)

    @pytest.mark.parametrize("head", [(0, 1), (1, 0)])
    def test_the_mean_of_equal_sequences_changes_nothing(self, head: Head) -> None:
        tokens = np.tile(repeats().tokens[:1], (3, 1))
        ablation = ablate(self.model, tokens, [frozenset([head])], ["mean"])
        np.testing.assert_allclose(ablation.changed["mean", frozenset([head])], ablation.intact, atol=1e-5)

    def test_effects_are_what_is_lost_of_the_ordered_copy_advantage(self) -> None:
        options = MeasureOptions(
            icl=IclOptions(early=3, late=40, window=8),
            held_out=HeldOutOptions(examples=20),
            repeats=RepeatsProbeOptions(sequences=8, quantiles=(0.0, 1.0)),
        )
        probes = Probes.draw(SmallCorpus(V, T), T, options)
        found = effects(self.model, probes, options, [INDUCTION, PREVIOUS], ["zero", "pattern_preserving"])
        values = {key: float(effect.quantities["ordered_copy_advantage"].value) for key, effect in found.items()}
        assert values == {
            ("zero", INDUCTION): pytest.approx(-CERTAIN, abs=1e-4),
            ("pattern_preserving", INDUCTION): pytest.approx(-CERTAIN, abs=1e-4),
            ("zero", PREVIOUS): pytest.approx(-CERTAIN, abs=1e-4),
            ("pattern_preserving", PREVIOUS): pytest.approx(0, abs=1e-4),
        }
        # token by token: where nothing is said, each costs ln V
        np.testing.assert_allclose(found["zero", INDUCTION].token_losses, SILENT, atol=1e-5)

    def test_the_group_of_induction_heads_is_the_one(self) -> None:
        options = MeasureOptions(repeats=RepeatsProbeOptions(sequences=8, quantiles=(0.0, 1.0)))
        assert choose(self.model, SmallCorpus(V, T), T, options, threshold=0.5) == INDUCTION
        assert matched_sets(self.model, INDUCTION, draws=5, seed=0) == [frozenset([(1, 1)])]

    def test_order_one_holds_all_that_the_induction_head_does(self) -> None:
        """With patterns frozen it is one head that copies; the previous-token head is in no path.

        L1H0 alone says everything (`added` = what it gains on ln V), and nothing is said without it (`removed`).
        """
        tokens = repeats().tokens
        whole = float(ablate(self.model, tokens, [], []).intact.mean())
        expect_paths(self.model, tokens, [SILENT, whole, whole], {"L1H0": (whole - SILENT, SILENT - whole)})


class TestOneLayer:
    """One layer has no later pattern to preserve."""

    def test_without_its_head_smeared_induction_says_nothing(self) -> None:
        for ablation in of_repeats(smeared_induction_model(V, T)):
            for kind in ("zero", "pattern_preserving"):
                np.testing.assert_allclose(ablation.changed[kind, frozenset([(0, 0)])], SILENT, atol=1e-5)

    def test_smeared_induction_is_a_path_of_order_one(self) -> None:
        model, tokens = smeared_induction_model(V, T), repeats().tokens
        whole = float(ablate(model, tokens, [], []).intact.mean())
        expect_paths(model, tokens, [SILENT, whole], {"L0H0": (whole - SILENT, SILENT - whole)})

    def test_copying_and_anti_copying_heads_leave_what_the_other_says(self) -> None:
        """Each by itself, both as ablations and as paths: logits are sums."""
        model, tokens = copying_model(V, T), periodic(2)
        copying, anti_copying = raised(tokens, 1), -raised(tokens, 2)
        whole, copied, lowered = (losses_of(x, tokens) for x in (copying + anti_copying, copying, anti_copying))
        np.testing.assert_allclose(ablated(model, tokens, (0, 0)), lowered, atol=1e-5)
        np.testing.assert_allclose(ablated(model, tokens, (0, 1)), copied, atol=1e-5)
        np.testing.assert_allclose(ablated(model, tokens, (0, 0), (0, 1)), SILENT, atol=1e-5)
        paths = {
            "L0H0": (copied.mean() - SILENT, lowered.mean() - whole.mean()),
            "L0H1": (lowered.mean() - SILENT, copied.mean() - whole.mean()),
        }
        expect_paths(model, tokens, [SILENT, whole.mean()], paths)

    def test_a_skip_trigram_head_is_missed_where_its_skip_trigram_occurs(self) -> None:
        model = skip_trigram_model(V, T, CUES)
        tokens, forced = skip_trigram_text()
        ablation = ablate(model, tokens, every_head(model), ["zero"])
        lost = ablation.changed["zero", frozenset([(0, 0)])] - ablation.intact
        np.testing.assert_allclose(lost, np.where(forced, SILENT - RIGHT, 0), atol=1e-5)


class TestVirtualHead:
    """Two heads that compose through values."""

    model = virtual_head_model(V, T)

    @pytest.mark.parametrize("kind", ["zero", "pattern_preserving"])
    @pytest.mark.parametrize("head", [(0, 1), (1, 0)])
    def test_both_are_needed_even_with_patterns_preserved(self, head: Head, kind: Kind) -> None:
        """What the earlier head brings is in the values of the later one, which no pattern holds."""
        np.testing.assert_allclose(ablated(self.model, periodic(4), head, kind=kind), SILENT, atol=1e-5)

    def test_only_the_path_through_both_says_anything(self) -> None:
        tokens = periodic(4)
        whole = losses_of(raised(tokens, 2, 1), tokens).mean()
        expected = {"L0H1→L1H0": (whole - SILENT, SILENT - whole)}
        expect_paths(self.model, tokens, [SILENT, SILENT, whole], expected)


def expect_paths(
    model: Transformer, tokens: np.ndarray, orders: list[float], paths: dict[str, tuple[float, float]]
) -> None:
    """Losses up to each order, and what paths change when added and removed; those not named change nothing."""
    found = path_order(model, tokens, np.arange(len(tokens)))
    values = {(path.name, path.how, path.order): float(estimate.value) for path, estimate in found.items()}
    layers, heads = model.options.n_attention, model.options.n_heads
    assert len(values) == len(orders) + 2 * (1 + layers * heads + layers * (layers - 1) // 2 * heads**2)
    for (name, how, order), value in values.items():
        if how == "up_to":
            assert value == pytest.approx(orders[order], abs=1e-5)
        else:
            added, removed = paths.get(name, (0.0, 0.0))
            assert value == pytest.approx(added if how == "added" else removed, abs=1e-5), (name, how)
            assert order == (0 if name == "direct" else 1 + name.count("→"))
    assert paths.keys() <= {name for name, _, _ in values}
