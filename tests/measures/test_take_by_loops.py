"""Every number of a snapshot that is read off losses and patterns, with its error, by loops over their definitions."""

from dataclasses import dataclass
from math import log, sqrt

import numpy as np
import pytest
import torch

from induction_bump.measures.ngrams import Ngrams
from induction_bump.measures.options import HeldOutOptions, IclOptions, MeasureOptions, RepeatsProbeOptions
from induction_bump.measures.probes import Probes
from induction_bump.measures.take import Measured, take
from induction_bump.model.transformer import Transformer
from tests.measures.corpus import SmallCorpus
from tests.measures.random_models import random_model
from tests.model.naive import Patterns, naive_logits
from tests.model.variants import options

V, T = 17, 34
ICL = IclOptions(early=3, late=30, window=6)
OPTIONS = MeasureOptions(
    icl=ICL, held_out=HeldOutOptions(examples=7), repeats=RepeatsProbeOptions(sequences=5, quantiles=(0.0, 1.0))
)
PROBES = Probes.draw(SmallCorpus(V, T), T, OPTIONS)
DOCUMENTS = PROBES.held_out.documents.tolist()
HEADS = [(layer, head) for layer in range(2) for head in range(3)]
RNG = np.random.default_rng(4)
NGRAMS = Ngrams(V, np.sort(RNG.choice(V * V, 120, replace=False)), RNG.integers(1, 30, 120), np.full(10, 0.7))


@dataclass
class Run:
    """The model on one sequence: losses[k − 1] of token k, and the patterns."""

    tokens: list[int]
    losses: list[float]
    log_p: np.ndarray
    patterns: Patterns

    @classmethod
    def of(cls, model: Transformer, tokens: list[int], context: int = T) -> "Run":
        patterns: Patterns = {}

        def note(layer: int, head: int, z: torch.Tensor, pattern: torch.Tensor) -> torch.Tensor:
            patterns[layer, head] = pattern
            return z

        log_p = naive_logits(model, torch.tensor(tokens[:context]), note).log_softmax(-1).numpy()
        return cls(tokens, [-float(log_p[k, t]) for k, t in enumerate(tokens[1:])], log_p, patterns)


@pytest.fixture(scope="module")
def model() -> Transformer:
    return random_model(options(sublayers="sfs", biases=True), vocab_size=V, context=T, spread=0.2)


@pytest.fixture(scope="module")
def found(model: Transformer) -> Measured:
    return take(model, PROBES, OPTIONS, ngrams=NGRAMS)


@pytest.fixture(scope="module")
def text(model: Transformer) -> list[Run]:
    return [Run.of(model, window) for window in PROBES.held_out.tokens.tolist()]


@pytest.fixture(scope="module")
def copies(model: Transformer) -> list[tuple[int, Run, Run]]:
    """Of each sequence of the repeats, without its padding: the block's length, and the true and the shuffled run."""
    probe = PROBES.repeats
    rows = zip(probe.blocks.tolist(), probe.tokens.tolist(), probe.shuffled.tolist(), strict=True)
    return [(n, Run.of(model, true[: 2 * n + 1]), Run.of(model, other[: 2 * n + 1])) for n, true, other in rows]


def ratio(values: list[list[float]], clusters: list[int]) -> tuple[float, float]:
    """The mean of all values, a list an example, and its error: √(C/(C − 1) · Σ_c (Σ over c of value − mean)²) / N."""
    count = sum(len(of_example) for of_example in values)
    mean = sum(sum(of_example) for of_example in values) / count
    squares = [
        sum(v - mean for of_example, at in zip(values, clusters, strict=True) if at == c for v in of_example) ** 2
        for c in set(clusters)
    ]
    return mean, sqrt(len(squares) / (len(squares) - 1) * sum(squares)) / count


def assert_is(found: tuple[float, float | None], values: list[list[float]], clusters: list[int], what: str) -> None:
    mean, stderr = ratio(values, clusters)
    assert found[0] == pytest.approx(mean, abs=2e-5), what
    assert found[1] == pytest.approx(stderr, abs=2e-5), f"standard error of {what}"


def rule(tokens: list[int], k: int) -> str:
    """Whether the latest earlier occurrence of t_{k−1} was followed by t_k."""
    for j in range(k - 2, -1, -1):
        if tokens[j] == tokens[k - 1]:
            return "predictable" if tokens[j + 1] == tokens[k] else "unpredictable"
    return "new"


def p_unigram(v: int) -> float:
    pairs = zip(NGRAMS.pairs.tolist(), NGRAMS.counts.tolist(), strict=True)
    return (sum(c for pair, c in pairs if pair % V == v) + 1) / (NGRAMS.counts.sum() + V)


def p_bigram(a: int, v: int) -> float:
    of_a = {
        pair % V: c for pair, c in zip(NGRAMS.pairs.tolist(), NGRAMS.counts.tolist(), strict=True) if pair // V == a
    }
    return 0.7 * of_a.get(v, 0) / sum(of_a.values()) + 0.3 * p_unigram(v) if of_a else p_unigram(v)


def test_the_probe_has_documents_of_several_windows_and_blocks_of_several_lengths() -> None:
    assert 1 < len(set(DOCUMENTS)) < len(DOCUMENTS)
    assert len(set(PROBES.repeats.blocks.tolist())) > 2


def test_losses_and_scores_on_text(found: Measured, text: list[Run]) -> None:
    assert_is(found.scalars["loss"], [[sum(run.losses) / T] for run in text], DOCUMENTS, "loss")
    score = [run.losses[30 - 1] - run.losses[3 - 1] for run in text]
    window = [sum(run.losses[k - 1] for k in range(25, 31)) / 6 - sum(run.losses[2:8]) / 6 for run in text]
    for name, values in (("icl_score", score), ("icl_window_score", window)):
        assert_is(found.scalars[name], [[value] for value in values], DOCUMENTS, name)
        np.testing.assert_allclose(found.examples[name], values, rtol=0, atol=2e-5)
    assert found.loss_by_position is not None
    for k in range(1, T + 1):
        of_position = (float(found.loss_by_position.value[k - 1]), float(found.loss_by_position.stderr[k - 1]))
        assert_is(of_position, [[run.losses[k - 1]] for run in text], DOCUMENTS, f"position {k}")
    chosen = [run.losses[k - 1] for run, k in zip(text, PROBES.held_out.position.tolist(), strict=True)]
    assert found.token_losses is not None
    np.testing.assert_allclose(found.token_losses, chosen, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["predictable", "unpredictable"])
def test_tokens_by_the_induction_rule(found: Measured, text: list[Run], kind: str) -> None:
    chosen = [[k for k in range(1, T + 1) if rule(run.tokens, k) == kind] for run in text]
    assert sum(map(len, chosen)) > 3
    of_kind = [[run.losses[k - 1] for k in ks] for run, ks in zip(text, chosen, strict=True)]
    assert_is(found.scalars[f"{kind}_loss"], of_kind, DOCUMENTS, "loss")
    assert_is(found.scalars[f"{kind}_share"], [[len(ks) / T] for ks in chosen], DOCUMENTS, "share")
    gains = [
        [-log(p_bigram(run.tokens[k - 1], run.tokens[k])) - run.losses[k - 1] for k in ks]
        for run, ks in zip(text, chosen, strict=True)
    ]
    assert_is(found.scalars[f"{kind}_gain"], gains, DOCUMENTS, "gain")


def test_what_ngrams_say_of_the_same_tokens(found: Measured, text: list[Run]) -> None:
    unigram, bigram, kl = [], [], []
    table = [[p_bigram(a, v) for v in range(V)] for a in range(V)]
    for run in text:
        pairs = list(zip(run.tokens, run.tokens[1:], run.losses, strict=False))
        unigram.append([sum(-log(p_unigram(v)) - loss for _, v, loss in pairs) / T])
        bigram.append([sum(-log(table[a][v]) - loss for a, v, loss in pairs) / T])
        terms = [
            sum(p * (log(p) - run.log_p[k, v]) for v, p in enumerate(table[a])) for k, a in enumerate(run.tokens[:T])
        ]
        kl.append([sum(terms) / T])
    assert abs(ratio(unigram, DOCUMENTS)[0] - ratio(bigram, DOCUMENTS)[0]) > 0.01
    for name, values in (("unigram_gap", unigram), ("bigram_gap", bigram), ("bigram_kl", kl)):
        assert_is(found.scalars[name], values, DOCUMENTS, name)


def test_losses_of_the_copies_and_their_advantages(found: Measured, copies: list[tuple[int, Run, Run]]) -> None:
    """Each over the 2nd … last token of a copy; every sequence is independent of the others."""
    first = [sum(true.losses[k - 1] for k in range(2, n + 1)) / (n - 1) for n, true, _ in copies]
    second = [sum(true.losses[k - 1] for k in range(n + 2, 2 * n + 1)) / (n - 1) for n, true, _ in copies]
    shuffled = [sum(other.losses[k - 1] for k in range(n + 2, 2 * n + 1)) / (n - 1) for n, _, other in copies]
    for name, values in (
        ("first_copy_loss", first),
        ("second_copy_loss", second),
        ("shuffled_copy_loss", shuffled),
        ("copy_advantage", [a - b for a, b in zip(first, second, strict=True)]),
        ("ordered_copy_advantage", [a - b for a, b in zip(shuffled, second, strict=True)]),
    ):
        assert_is(found.scalars[name], [[value] for value in values], list(range(len(values))), name)


def test_head_scores(found: Measured, text: list[Run], copies: list[tuple[int, Run, Run]]) -> None:
    for head in HEADS:
        patterns = [run.patterns[head] for run in text]
        previous = [[float(sum(A[i, i - 1] for i in range(2, T))) / (T - 2)] for A in patterns]
        first = [[float(sum(A[i, 0] for i in range(1, T))) / (T - 1)] for A in patterns]
        assert_is(found.heads["previous_token"][head], previous, DOCUMENTS, "previous_token")
        assert_is(found.heads["first_token"][head], first, DOCUMENTS, "first_token")
        for name, after in (("prefix_matching", 1), ("prefix_matching_off_by_one", 2), ("duplicate_token", 0)):
            of_copies = [
                [float(sum(true.patterns[head][i, i - n + after] for i in range(n + 1, 2 * n + 1))) / n]
                for n, true, _ in copies
            ]
            assert_is(found.heads[name][head], of_copies, list(range(len(copies))), name)
