"""What a model is worth beside the corpus's bigram table: against loops, oracles, and a language whose law is known."""

from math import log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from induction_bump.data.options import TriggersOptions
from induction_bump.data.synthetic import SyntheticCorpus
from induction_bump.data.triggers import TriggersGenerator
from induction_bump.measures import reading
from induction_bump.measures.losses import gap, induction_rule, masked_gain
from induction_bump.measures.ngrams import Ngrams, build
from induction_bump.measures.options import NgramOptions
from induction_bump.measures.reading import read
from induction_bump.model.options import ModelOptions
from induction_bump.model.transformer import Transformer
from tests.measures.markov import OPTIONS, MarkovCorpus, T, V


@pytest.fixture(scope="module")
def corpus() -> MarkovCorpus:
    return MarkovCorpus()


@pytest.fixture(scope="module")
def ngrams(corpus: MarkovCorpus) -> Ngrams:
    return build(corpus, T, OPTIONS)


VARIANTS = {
    "no layers": ModelOptions(sublayers="", d_model=8, norm="none"),
    "biases and LayerNorm": ModelOptions(sublayers="sf", d_model=8, n_heads=2, norm="layernorm", biases=True),
    "tied and RMSNorm": ModelOptions(sublayers="ss", d_model=8, n_heads=2, norm="rmsnorm", tied=True),
}


def untrained(name: str, scale: float = 1.0) -> Transformer:
    """A model all of whose parameters are noise, gains and biases too."""
    model = Transformer(VARIANTS[name], V, T).eval()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=random))
    return model


def naive_kl(ngrams: Ngrams, logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """KL by its definition, token by token, in float64."""
    law = ngrams.rows(np.arange(V))
    kl = np.zeros((len(tokens), tokens.shape[1] - 1))
    for n, k in np.ndindex(*kl.shape):
        largest = logits[n, k].max()
        log_z = largest + log(sum(np.exp(logits[n, k] - largest)))
        for v in range(V):
            p = law[tokens[n, k], v]
            kl[n, k] += p * (log(p) - (logits[n, k, v] - log_z))
    return kl


class TestBigramKl:
    """How far a model is from the bigram table."""

    @pytest.mark.parametrize("name", VARIANTS)
    def test_it_is_the_sum_over_the_vocabulary(self, corpus: MarkovCorpus, ngrams: Ngrams, name: str) -> None:
        model, tokens = untrained(name), corpus.held_out(6, T, 3).tokens
        with torch.no_grad():
            logits = model.double()(torch.from_numpy(tokens[:, :-1])).numpy()
        found = read(model.float(), tokens, ngrams=ngrams).bigram_kl
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, naive_kl(ngrams, logits, tokens), atol=1e-5, rtol=1e-5)

    def test_it_and_the_gap_are_zero_for_a_model_that_is_the_bigram_table(
        self, corpus: MarkovCorpus, ngrams: Ngrams
    ) -> None:
        model = Transformer(ModelOptions(sublayers="", d_model=V + 3, n_heads=1, norm="none", biases=False), V, T)
        with torch.no_grad():
            model.W_E.zero_()[:, :V] = torch.eye(V)
            model.W_U.zero_()[:V] = torch.from_numpy(np.log(ngrams.rows(np.arange(V))))
        held_out = corpus.held_out(20, T, 3)
        found = read(model, held_out.tokens, ngrams=ngrams)
        np.testing.assert_allclose(found.bigram_kl, 0, atol=2e-6)
        unigram, bigram = ngrams.losses(held_out.tokens)
        np.testing.assert_allclose(found.losses, bigram, atol=1e-5)
        assert float(gap(bigram, found.losses, held_out.document)) == pytest.approx(0, abs=1e-5)
        assert float(gap(unigram, found.losses, held_out.document)) > 0.1

    def test_a_uniform_model_is_as_far_as_the_table_is_from_uniform(self, corpus: MarkovCorpus, ngrams: Ngrams) -> None:
        model, tokens = untrained("no layers"), corpus.held_out(6, T, 3).tokens
        with torch.no_grad():
            model.W_U.zero_()
            if model.b_U is not None:
                model.b_U.fill_(3.0)  # a constant on every logit is nothing
        expected = log(V) - ngrams.entropies[tokens[:, :-1]]
        np.testing.assert_allclose(read(model, tokens, ngrams=ngrams).bigram_kl, expected, atol=1e-5)

    @pytest.mark.parametrize("name", VARIANTS)
    def test_it_does_not_depend_on_how_the_pass_is_cut(
        self, corpus: MarkovCorpus, ngrams: Ngrams, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        model, tokens = untrained(name, 0.5), corpus.held_out(20, T, 3).tokens
        whole = read(model, tokens, ngrams=ngrams)
        plain = read(model, tokens)
        monkeypatch.setattr(reading, "TOKENS_AT_ONCE", 3 * T)
        monkeypatch.setattr(reading, "LOGITS_AT_ONCE", 2 * V + 1)
        pieces = read(model, tokens, ngrams=ngrams)
        np.testing.assert_allclose(pieces.bigram_kl, whole.bigram_kl, atol=2e-6)
        assert np.array_equal(plain.losses, whole.losses)
        assert plain.bigram_kl.size == 0

    @given(seed=st.integers(0, 1000), scale=st.floats(0.01, 2.0))
    @settings(max_examples=20, deadline=None)
    def test_it_is_never_negative_and_no_constant_changes_it(
        self, corpus: MarkovCorpus, ngrams: Ngrams, seed: int, scale: float
    ) -> None:
        model, tokens = untrained("biases and LayerNorm", scale), corpus.held_out(3, T, seed).tokens
        before = read(model, tokens, ngrams=ngrams).bigram_kl
        assert (before > -1e-5).all()
        assert model.b_U is not None
        with torch.no_grad():
            model.b_U += 2.5
        np.testing.assert_allclose(read(model, tokens, ngrams=ngrams).bigram_kl, before, atol=1e-5, rtol=1e-5)

    def test_it_needs_the_losses_and_a_model_of_the_same_vocabulary(self, corpus: MarkovCorpus, ngrams: Ngrams) -> None:
        tokens = corpus.held_out(3, T, 3).tokens
        with pytest.raises(AssertionError, match="read off the logits"):
            read(untrained("no layers"), tokens, losses=False, ngrams=ngrams)
        with pytest.raises(AssertionError):
            read(Transformer(VARIANTS["no layers"], V + 1, T), tokens, ngrams=ngrams)

    def test_ten_thousand_examples_never_have_their_logits_at_once(
        self, corpus: MarkovCorpus, ngrams: Ngrams, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """O22's number of examples: only what is asked for, N × T, grows with it."""
        model, N = untrained("tied and RMSNorm", 0.5), 10_000
        tokens = np.tile(corpus.held_out(100, T, 3).tokens, (N // 100, 1))
        limit = 10 * V
        monkeypatch.setattr(reading, "TOKENS_AT_ONCE", 500 * T)
        monkeypatch.setattr(reading, "LOGITS_AT_ONCE", limit)
        losses, rows, embed = reading.next_token_losses, Ngrams.rows, Transformer.embed
        logits_seen: list[int] = []
        rows_seen: list[int] = []
        batches_seen: list[int] = []

        def spied_losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            logits_seen.append(logits.numel())
            return losses(logits, targets)

        def spied_rows(self: Ngrams, contexts: np.ndarray) -> np.ndarray:
            found = rows(self, contexts)
            rows_seen.append(found.size)
            return found

        def spied_embed(self: Transformer, batch: torch.Tensor) -> torch.Tensor:
            batches_seen.append(batch.numel())
            return embed(self, batch)

        monkeypatch.setattr(reading, "next_token_losses", spied_losses)
        monkeypatch.setattr(Ngrams, "rows", spied_rows)
        monkeypatch.setattr(Transformer, "embed", spied_embed)
        found = read(model, tokens, ngrams=ngrams)
        assert found.losses.shape == found.bigram_kl.shape == (N, T)
        assert sum(logits_seen) == N * T * V
        assert max(logits_seen) <= limit
        assert max(rows_seen) <= limit
        assert max(batches_seen) <= 500 * T
        for values in (found.losses, found.bigram_kl):
            np.testing.assert_allclose(values, np.tile(values[:100], (N // 100, 1)), atol=1e-5)


class TestGaps:
    """Reference minus model, in nats: positive where the model is the better one."""

    documents = np.array([0, 0, 1, 2])

    def test_they_are_means_of_paired_differences(self) -> None:
        random = np.random.default_rng(0)
        noise = 10 * random.normal(size=(4, 6))
        advantage = np.array([1.0, 2.0, 3.0, 6.0])[:, None]
        estimate = gap(noise + advantage, noise, self.documents)
        assert float(estimate) == pytest.approx(3)
        # sums of residuals by document: −3, 0 and 3; C / (C − 1) · Σ e² / N² by hand
        assert float(estimate.stderr) == pytest.approx(np.sqrt(3 / 2 * 18 / 16))

    def test_gains_are_means_over_the_tokens_of_a_mask(self) -> None:
        random = np.random.default_rng(0)
        reference, losses = random.normal(size=(2, 4, 6))
        mask = random.random((4, 6)) < 0.4
        chosen = [reference[i] - losses[i] for i in zip(*np.nonzero(mask), strict=True)]
        estimate = masked_gain(reference, losses, mask, self.documents)
        assert estimate is not None
        assert float(estimate) == pytest.approx(sum(chosen) / len(chosen))
        assert masked_gain(reference, losses, np.zeros_like(mask), self.documents) is None

    def test_losses_on_other_tokens_cannot_be_compared(self) -> None:
        for compare in (gap, lambda *arrays: masked_gain(*arrays[:2], np.ones((4, 5), bool), arrays[2])):
            with pytest.raises(ValueError, match="not on the same tokens"):
                compare(np.zeros((4, 6)), np.zeros((4, 5)), self.documents)


@pytest.fixture(scope="module")
def generator() -> TriggersGenerator:
    options = TriggersOptions(vocab_size=33, triggers=3, fixed_triggers=True, concentration=0.5)
    return TriggersGenerator(options, prepend_bos=True)


@pytest.fixture(scope="module")
def language(generator: TriggersGenerator) -> tuple[SyntheticCorpus, Ngrams]:
    corpus = SyntheticCorpus(generator, 64, "f" * 64)
    return corpus, build(corpus, 64, NgramOptions(tokens=1_000_000, held_out=128))


class TestOnTriggers:
    """B23's language with the same triggers in every window: tables and losses are known."""

    def test_where_no_trigger_leads_the_table_is_that_of_the_language(
        self, generator: TriggersGenerator, language: tuple[SyntheticCorpus, Ngrams]
    ) -> None:
        corpus, ngrams = language
        held_out = corpus.held_out(400, 64, 3)
        assert held_out.triggers is not None
        tokens, triggers = held_out.tokens, held_out.triggers[0]
        law = np.zeros((33, 33))
        law[1:, 1:], law[0] = generator.bigrams, generator.frequencies
        free = ~np.isin(tokens[:, :-1], triggers)
        _, bigram = ngrams.losses(tokens)
        truth = -np.log(law[tokens[:, :-1][free], tokens[:, 1:][free]])
        assert bigram[free].mean() == pytest.approx(truth.mean(), abs=0.01)
        contexts = np.setdiff1d(np.arange(33), triggers)
        rows = ngrams.rows(contexts)
        # three standard errors of a frequency, and what interpolation mixes in
        tolerance = 3 * np.sqrt(law[contexts] / ngrams.context_counts[contexts][:, None]) + 3e-3
        assert (np.abs(rows - law[contexts]) < tolerance).mean() > 0.99

    def test_after_a_trigger_a_bigram_table_knows_next_to_nothing(
        self, language: tuple[SyntheticCorpus, Ngrams]
    ) -> None:
        corpus, ngrams = language
        held_out = corpus.held_out(400, 64, 3)
        assert held_out.triggers is not None
        led = np.isin(held_out.tokens[:, :-1], held_out.triggers[0])
        _, bigram = ngrams.losses(held_out.tokens)
        assert log(32) / 2 < bigram[led].mean() < log(32) + 0.3

    def test_who_knows_the_windows_triggers_gains_on_predictable_tokens(
        self, generator: TriggersGenerator, language: tuple[SyntheticCorpus, Ngrams]
    ) -> None:
        """The ideal in-context learner: sure after a trigger that it has seen lead before, the table elsewhere."""
        corpus, ngrams = language
        held_out = corpus.held_out(200, 64, 3)
        assert held_out.triggers is not None
        tokens, documents = held_out.tokens, held_out.document
        rule = induction_rule(tokens)
        _, bigram = ngrams.losses(tokens)
        led = np.isin(tokens[:, :-1], held_out.triggers[0])
        ideal = np.where(led & rule.right, 0.0, bigram)
        predictable = masked_gain(bigram, ideal, rule.right, documents)
        unpredictable = masked_gain(bigram, ideal, rule.wrong, documents)
        assert predictable is not None
        assert unpredictable is not None
        assert float(predictable) == pytest.approx((bigram * (led & rule.right)).sum() / rule.right.sum())
        assert float(predictable) > 10 * float(predictable.stderr) > 0
        assert float(unpredictable) == 0
        assert float(gap(bigram, ideal, documents)) == pytest.approx(float(predictable) * rule.right.mean())
