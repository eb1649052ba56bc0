"""Head scores: known models, naive loops, and what must not matter."""

import numpy as np
import pytest
import torch
from torch import Tensor

from induction_bump.measures.heads import head_scores, repeat_lookup, text_lookup
from induction_bump.measures.options import MeasureOptions, RepeatsProbeOptions
from induction_bump.measures.probes import RepeatsProbe, repeats_probe
from induction_bump.measures.reading import read
from induction_bump.model.options import ModelOptions
from induction_bump.model.transformer import Tap, Transformer
from tests.measures.corpus import SmallCorpus
from tests.measures.wired import induction_model


def probe_of(repeats: int = 2, context: int = 40, sequences: int = 6) -> RepeatsProbe:
    options = RepeatsProbeOptions(sequences=sequences, repeats=repeats, quantiles=(0.0, 1.0))
    return repeats_probe(SmallCorpus(context=context), context, options)


def patterns_of(model: Transformer, tokens: Tensor) -> list[Tensor]:
    patterns: list[Tensor] = []
    with torch.no_grad():
        model(tokens, Tap(frozenset({"pattern"}), lambda site, p: patterns.append(p)))
    return patterns


def means(scores: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values.mean(0) for name, values in scores.items()}


class TestHandWiredInduction:
    """A model that does nothing but induction, without error."""

    def test_the_induction_head_matches_prefixes_and_no_other_does(self) -> None:
        probe = probe_of()
        scores = means(read(induction_model(32, 40), probe.tokens, probe.lookup).scores)
        assert scores["prefix_matching"][1, 0] == pytest.approx(1, abs=1e-3)
        others = np.delete(scores["prefix_matching"].ravel(), 2)
        assert others.max() < 0.1
        assert scores["prefix_matching_off_by_one"][1, 0] < 1e-3
        assert scores["duplicate_token"][1, 0] < 1e-3

    def test_the_previous_token_head_attends_to_the_previous_token(self) -> None:
        probe = probe_of()
        lookup = text_lookup(*probe.tokens[:, :-1].shape)
        scores = means(read(induction_model(32, 40), probe.tokens, lookup).scores)
        assert scores["previous_token"][0, 1] == pytest.approx(1, abs=1e-3)
        assert scores["previous_token"][0, 0] < 0.2

    def test_its_second_copies_are_free_of_loss(self) -> None:
        probe = probe_of()
        losses = read(induction_model(32, 40), probe.tokens).losses
        for sequence, n in zip(losses, probe.blocks, strict=True):
            # k = n + 2 is the first token of the second copy that can be known
            assert sequence[n + 1 : 2 * n].max() < 1e-3
            assert sequence[1:n].mean() > np.log(32) - 0.2


@pytest.mark.parametrize("repeats", [2, 4])
@pytest.mark.parametrize("positions", ["rotary", "shortformer"])
@pytest.mark.parametrize("smeared", [False, True])
def test_scores_are_those_of_loops_over_whole_patterns(repeats: int, positions: str, smeared: bool) -> None:
    probe = probe_of(repeats)
    options = ModelOptions(sublayers="sfs", d_model=16, n_heads=2, positions=positions, smeared_keys=smeared)
    model = Transformer(options, 32, 40)
    with torch.no_grad():
        for sublayer in model.attention_sublayers():
            sublayer.W_Q.mul_(4)  # patterns far from uniform
    found = read(model, probe.tokens, probe.lookup).scores
    patterns = patterns_of(model, torch.from_numpy(probe.tokens))
    for layer, pattern in enumerate(patterns):
        for s, n in enumerate(probe.blocks.tolist()):
            for head in range(2):
                A = pattern[s, head]
                expected = {
                    name: np.mean(
                        [
                            fold([float(A[i, i - m * n + shift]) for m in range(1, repeats) if i - m * n >= 1])
                            for i in range(n + 1, repeats * n + 1)
                        ]
                    )
                    for name, shift, fold in (
                        ("prefix_matching", 1, sum),
                        ("prefix_matching_off_by_one", 2, sum),
                        ("duplicate_token", 0, sum),
                        ("prefix_matching_mean", 1, np.mean),
                    )
                    if repeats > 2 or name != "prefix_matching_mean"
                }
                for name, value in expected.items():
                    assert found[name][s, layer, head] == pytest.approx(value, abs=1e-5)
    assert ("prefix_matching_mean" in found) == (repeats > 2)


def test_text_scores_are_those_of_loops_over_whole_patterns() -> None:
    tokens = np.random.default_rng(0).integers(0, 32, (5, 20))
    model = Transformer(ModelOptions(sublayers="ss", d_model=16, n_heads=2), 32, 40)
    found = read(model, tokens, text_lookup(5, 19)).scores
    for layer, pattern in enumerate(patterns_of(model, torch.from_numpy(tokens[:, :-1]))):
        for s in range(5):
            for head in range(2):
                A = pattern[s, head]
                previous = np.mean([float(A[i, i - 1]) for i in range(2, 19)])
                first = np.mean([float(A[i, 0]) for i in range(1, 19)])
                assert found["previous_token"][s, layer, head] == pytest.approx(previous, abs=1e-5)
                assert found["first_token"][s, layer, head] == pytest.approx(first, abs=1e-5)


@pytest.mark.parametrize(("T", "published"), [(16, 0.13), (32, 0.085)])
def test_uniform_attention_scores_the_harmonic_mean(T: int, published: float) -> None:
    model = Transformer(ModelOptions(sublayers="s", d_model=16, n_heads=2), 32, T)
    with torch.no_grad():
        next(model.attention_sublayers()).W_Q.zero_()
    tokens = np.random.default_rng(0).integers(0, 32, (2, T + 1))
    scores = read(model, tokens, text_lookup(2, T)).scores["previous_token"]
    np.testing.assert_allclose(scores, np.mean([1 / (i + 1) for i in range(2, T)]), rtol=1e-5)
    np.testing.assert_allclose(scores, published, atol=0.005)


def test_a_head_with_a_fixed_look_back_cannot_score_one() -> None:
    """Attending to i − (n − 1) for the longest n is right only in the sequences with that block."""
    probe = probe_of(context=80, sequences=16)
    T = probe.tokens.shape[1]
    look_back = int(probe.blocks.max()) - 1
    pattern = torch.zeros(16, 1, T, T)
    for i in range(T):
        pattern[:, 0, i, max(0, i - look_back)] = 1
    keys = probe.lookup.keys
    entries = pattern.gather(-1, keys[:, None].clamp(min=0)) * (keys[:, None] >= 0)
    score = head_scores(entries, probe.lookup)["prefix_matching"].mean()
    assert len(set(probe.blocks.tolist())) > 1
    assert score < 0.5


def test_permuting_heads_permutes_scores() -> None:
    probe = probe_of()
    model = Transformer(ModelOptions(sublayers="s", d_model=16, n_heads=4, d_head=4), 32, 40)
    before = read(model, probe.tokens, probe.lookup).scores["prefix_matching"]
    order = [2, 0, 3, 1]
    with torch.no_grad():
        attention = next(model.attention_sublayers())
        for weight in (attention.W_Q, attention.W_K, attention.W_V):
            weight.copy_(weight[:, order].clone())
        attention.W_O.copy_(attention.W_O[order].clone())
    after = read(model, probe.tokens, probe.lookup).scores["prefix_matching"]
    np.testing.assert_allclose(after, before[:, :, order], rtol=1e-5)


class TestDegenerateInput:
    """What cannot be scored is an error, never a NaN that travels on."""

    def test_patterns_that_are_not_probabilities(self) -> None:
        probe = probe_of()
        entries = torch.full((6, 2, *probe.lookup.keys.shape[1:]), torch.nan)
        with pytest.raises(ValueError, match="not finite probabilities"):
            head_scores(entries, probe.lookup)
        with pytest.raises(ValueError, match="not finite probabilities"):
            head_scores(torch.full_like(entries, 1.5), probe.lookup)

    def test_a_sequence_without_a_query(self) -> None:
        with pytest.raises(ValueError, match="no token to query"):
            repeat_lookup(torch.tensor([8]), 2, torch.zeros(1, 17, dtype=torch.bool))

    def test_a_context_of_two(self) -> None:
        with pytest.raises(ValueError, match="at least 3 positions"):
            text_lookup(4, 2)


def test_default_measure_options_are_those_of_the_definitions() -> None:
    options = MeasureOptions()
    assert (options.icl.early, options.icl.late, options.icl.window) == (50, 500, 50)
    assert (options.held_out.examples, options.repeats.sequences, options.repeats.repeats) == (1024, 128, 2)
