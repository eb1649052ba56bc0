"""Effects of ablations: loops over sequences, positions and documents, and what must not matter."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from induction_bump.measures import batches
from induction_bump.measures.ablation import Head, Kind, every_head, mean_z
from induction_bump.measures.causal import effects
from induction_bump.measures.options import (
    CausalOptions,
    HeldOutOptions,
    IclOptions,
    MeasureOptions,
    RepeatsProbeOptions,
)
from induction_bump.measures.probes import Probes, RepeatsProbe
from induction_bump.model.transformer import Transformer
from tests.measures.corpus import SmallCorpus
from tests.measures.naive_ablation import NaiveAblation
from tests.measures.random_models import random_model
from tests.model.variants import options

V, T = 17, 28
KINDS: tuple[Kind, ...] = ("zero", "mean", "pattern_preserving")
GROUPS = (frozenset({(0, 1)}), frozenset({(0, 0), (1, 2)}))
OPTIONS = MeasureOptions(
    icl=IclOptions(early=3, late=26, window=6),
    held_out=HeldOutOptions(examples=8),
    repeats=RepeatsProbeOptions(sequences=5, quantiles=(0.0, 1.0)),
    causal=CausalOptions(examples=7),  # two documents of two windows, one of two that is cut
)
PROBES = Probes.draw(SmallCorpus(V, T), T, OPTIONS)


@cache
def model() -> Transformer:
    return random_model(options(sublayers="sfs", biases=True), vocab_size=V, context=T, spread=0.2)


def unpadded(probe: RepeatsProbe, tokens: np.ndarray) -> list[np.ndarray]:
    return [row[: 1 + 2 * n] for row, n in zip(tokens, probe.blocks, strict=True)]


@cache
def naive(of: str) -> NaiveAblation:
    """On text, on the true or on the shuffled repeats."""
    repeats = PROBES.repeats
    if of == "text":
        return NaiveAblation(model(), list(PROBES.held_out.tokens[: OPTIONS.causal.examples]))
    return NaiveAblation(model(), unpadded(repeats, repeats.tokens if of == "true" else repeats.shuffled))


def test_the_probe_has_sequences_of_several_lengths() -> None:
    assert len(set(PROBES.repeats.blocks.tolist())) > 2
    assert PROBES.repeats.lengths.max() == PROBES.repeats.tokens.shape[1]


@pytest.mark.parametrize("of", ["true", "shuffled"])
@pytest.mark.parametrize("at_once", [1, 1000], ids=["one by one", "all at once"])
def test_means_are_over_the_sequences_that_have_a_position(
    of: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "TOKENS_AT_ONCE", at_once)
    repeats = PROBES.repeats
    found = mean_z(model(), repeats.tokens if of == "true" else repeats.shuffled, repeats.lengths)
    for layer, head in ((0, 1), (1, 0), (1, 2)):
        np.testing.assert_allclose(found[layer][:, head], naive(of).mean((layer, head)), rtol=0, atol=1e-5)


def test_where_there_is_no_sequence_a_mean_is_zero() -> None:
    tokens = PROBES.repeats.tokens
    found = mean_z(model(), tokens, np.full(len(tokens), 9))
    whole = mean_z(model(), tokens)
    for layer, z in found.items():
        np.testing.assert_allclose(z[:9], whole[layer][:9], rtol=0, atol=1e-6)
        assert not z[9:].any()


def test_padding_has_no_part_in_any_effect() -> None:
    repeats = PROBES.repeats
    padding = np.arange(repeats.tokens.shape[1]) >= repeats.lengths[:, None]
    noise = np.random.default_rng(1).integers(1, V, padding.shape)
    other = replace(
        repeats,
        tokens=np.where(padding, noise, repeats.tokens),
        shuffled=np.where(padding, noise[::-1], repeats.shuffled),
    )
    assert (other.tokens != repeats.tokens).any()
    padded_by_bos, by_noise = (
        effects(model(), replace(PROBES, repeats=probe), OPTIONS, every_head(model()), KINDS)
        for probe in (repeats, other)
    )
    for key, effect in padded_by_bos.items():
        for name, estimate in effect.quantities.items():
            assert float(by_noise[key].quantities[name]) == pytest.approx(float(estimate), abs=1e-6), (key, name)


def test_no_sequence_as_long_as_the_probe_is_wide_is_no_trouble() -> None:
    """A probe of fewer sequences than lengths has the shorter ones only."""
    few = replace(OPTIONS, repeats=replace(OPTIONS.repeats, sequences=2))
    probes = Probes.draw(SmallCorpus(V, T), T, few)
    assert probes.repeats.lengths.max() < probes.repeats.tokens.shape[1]
    found = effects(model(), probes, few, GROUPS, ["mean"])
    assert all(np.isfinite(float(e.quantities["ordered_copy_advantage"])) for e in found.values())


def copied(losses: np.ndarray, block: int) -> float:
    """Mean loss over the 2nd … last token of the second copy: t_{n + 2} … t_{2n}."""
    return sum(losses[k - 1] for k in range(block + 2, 2 * block + 1)) / (block - 1)


def advantages(group: frozenset[Head] | None, kind: Kind) -> list[float]:
    """`ordered_copy_advantage` of each sequence, with a group ablated or intact."""
    shuffled, true = ((n.intact if group is None else n.losses(group, kind)) for n in map(naive, ("shuffled", "true")))
    return [copied(s, n) - copied(t, n) for s, t, n in zip(shuffled, true, PROBES.repeats.blocks.tolist(), strict=True)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("group", GROUPS, ids=["one", "two"])
def test_the_change_of_the_ordered_copy_advantage_is_that_of_loops(group: frozenset[Head], kind: Kind) -> None:
    found = effects(model(), PROBES, OPTIONS, [group], [kind])[kind, group].quantities["ordered_copy_advantage"]
    change = np.subtract(advantages(group, kind), advantages(None, kind))
    assert float(found) == pytest.approx(change.mean(), abs=1e-4)
    assert float(found.stderr) == pytest.approx(change.std(ddof=1) / np.sqrt(len(change)), abs=1e-4)


def clustered(values: list[float], documents: list[int]) -> tuple[float, float]:
    """The mean, and C/(C − 1) · Σ_c (Σ_{i∈c} (value_i − mean))², its root over N: the error clustered by document."""
    mean = sum(values) / len(values)
    squares = [
        sum(value - mean for value, document in zip(values, documents, strict=True) if document == c) ** 2
        for c in set(documents)
    ]
    c = len(squares)
    return mean, (c / (c - 1) * sum(squares)) ** 0.5 / len(values)


ON_TEXT: dict[str, Callable[[np.ndarray], float]] = {
    "loss": lambda losses: sum(losses) / T,
    "icl_score": lambda losses: losses[26 - 1] - losses[3 - 1],
    "icl_window_score": lambda losses: (
        sum(losses[k - 1] for k in range(21, 27)) / 6 - sum(losses[k - 1] for k in range(3, 9)) / 6
    ),
}
"""Of one window's losses; loss[k] is the one at k − 1."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("group", GROUPS, ids=["one", "two"])
def test_changes_on_text_and_their_errors_are_those_of_loops(group: frozenset[Head], kind: Kind) -> None:
    """Paired by window and clustered by document, on the leading windows only."""
    found = effects(model(), PROBES, OPTIONS, [group], [kind])[kind, group].quantities
    documents = PROBES.held_out.documents[: OPTIONS.causal.examples].tolist()
    assert len(set(documents)) < len(documents) < len(PROBES.held_out.tokens)
    assert found.keys() == {*ON_TEXT, "ordered_copy_advantage"}
    for name, of_window in ON_TEXT.items():
        ablated, intact = naive("text").losses(group, kind), naive("text").intact
        changes = [of_window(a) - of_window(b) for a, b in zip(ablated, intact, strict=True)]
        mean, stderr = clustered(changes, documents)
        assert abs(mean) > 1e-3
        assert float(found[name]) == pytest.approx(mean, abs=1e-4), name
        assert float(found[name].stderr) == pytest.approx(stderr, abs=1e-4), name


@pytest.mark.parametrize("kind", KINDS)
def test_token_losses_are_at_the_position_of_each_example(kind: Kind) -> None:
    group = GROUPS[0]
    found = effects(model(), PROBES, OPTIONS, [group], [kind])[kind, group].token_losses
    assert found.dtype == np.float32
    positions = PROBES.held_out.position[: OPTIONS.causal.examples].tolist()
    ablated = naive("text").losses(group, kind)
    np.testing.assert_allclose(found, [row[k - 1] for row, k in zip(ablated, positions, strict=True)], atol=1e-4)


def test_groups_and_kinds_are_told_apart() -> None:
    """What is found for several together is what is found for each by itself."""
    together = effects(model(), PROBES, OPTIONS, GROUPS, KINDS)
    assert together.keys() == {(kind, group) for kind in KINDS for group in GROUPS}
    for (kind, group), effect in together.items():
        alone = effects(model(), PROBES, OPTIONS, [group], [kind])[kind, group]
        np.testing.assert_allclose(effect.token_losses, alone.token_losses, rtol=0, atol=1e-5)
        for name, estimate in alone.quantities.items():
            assert float(effect.quantities[name]) == pytest.approx(float(estimate), abs=1e-5)
