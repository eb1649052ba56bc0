"""Probes: fixed, hashed, and made as the definitions say."""

from collections import Counter
from itertools import pairwise, permutations

import numpy as np
import pytest
from scipy.stats import chisquare

from induction_bump.data.held_out import HeldOut
from induction_bump.measures.options import MeasureOptions, RepeatsProbeOptions
from induction_bump.measures.probes import (
    ProbeError,
    eligible_tokens,
    held_out_probe,
    repeats_probe,
    without_successors,
)
from tests.measures.corpus import SmallCorpus

WIDE = RepeatsProbeOptions(sequences=12, quantiles=(0.0, 1.0))


def test_sequences_are_bos_and_a_block_of_distinct_tokens_again_and_again() -> None:
    probe = repeats_probe(SmallCorpus(context=64), 64, RepeatsProbeOptions(sequences=12, repeats=4, quantiles=(0, 1)))
    for row, n in zip(probe.tokens, probe.blocks, strict=True):
        block = row[1 : 1 + n]
        assert row[0] == 0
        assert len(set(block.tolist())) == n
        assert 0 not in block
        assert row[1 : 1 + 4 * n].tolist() == block.tolist() * 4
        assert (row[1 + 4 * n :] == 0).all()
    assert len(set(probe.blocks.tolist())) == 4


def test_the_shuffled_second_copy_holds_the_same_tokens_after_the_same_first() -> None:
    probe = repeats_probe(SmallCorpus(), 24, WIDE)
    for row, shuffled, n in zip(probe.tokens, probe.shuffled, probe.blocks, strict=True):
        assert shuffled[: n + 2].tolist() == row[: n + 2].tolist()
        assert sorted(shuffled[n + 1 : 2 * n + 1]) == sorted(row[n + 1 : 2 * n + 1])


@pytest.mark.parametrize(("context", "repeats"), [(20, 2), (101, 2), (101, 4)])
def test_in_the_shuffled_second_copy_no_token_follows_the_one_that_it_followed_before(
    context: int, repeats: int
) -> None:
    """Blocks of 8 to 50 tokens: whoever predicts what followed before is wrong of every token that is scored."""
    options = RepeatsProbeOptions(sequences=1000, repeats=repeats, quantiles=(0, 1))
    probe = repeats_probe(SmallCorpus(200, context), context, options)
    for shuffled, n in zip(probe.shuffled.tolist(), probe.blocks.tolist(), strict=True):
        # a token of the block is followed in the first copy, or by the first token of the second
        before = set(pairwise(shuffled[1 : n + 2]))
        assert not before & set(pairwise(shuffled[n + 1 : 2 * n + 1]))


def test_each_order_without_a_successor_is_as_likely_as_any_other() -> None:
    """Of 5 tokens whose first stays there are 9, the derangements of 4; χ² of 9 counts."""
    rng, draws = np.random.default_rng(0), 9000
    counts = Counter(tuple(without_successors(np.arange(5), rng).tolist()) for _ in range(draws))
    expected = {(0, *rest) for rest in permutations(range(1, 5)) if all(b - a != 1 for a, b in pairwise((0, *rest)))}
    assert set(counts) == expected
    assert len(expected) == 9
    assert chisquare(list(counts.values())).pvalue > 0.01


def test_no_block_depends_on_how_often_its_order_was_drawn() -> None:
    rng, other = (np.random.default_rng(3) for _ in range(2))
    for _ in range(20):
        without_successors(np.arange(8), rng)
        other.permutation(7)
    assert rng.random() == other.random()


def test_blocks_are_drawn_between_the_quantiles_of_frequency() -> None:
    corpus = SmallCorpus(vocab_size=101)
    eligible = eligible_tokens(corpus, (0.1, 0.9))  # token v has frequency ∝ 1/v
    assert eligible.tolist() == list(range(11, 91))
    probe = repeats_probe(corpus, 24, RepeatsProbeOptions(sequences=50, quantiles=(0.1, 0.9)))
    assert set(np.unique(probe.tokens)) <= {0, *range(11, 91)}
    assert probe.pool == 80


def test_the_block_is_as_long_as_context_and_pool_allow() -> None:
    assert repeats_probe(SmallCorpus(200, 256), 256, WIDE).blocks.max() == 50
    assert repeats_probe(SmallCorpus(200, 41), 41, WIDE).blocks.max() == 20
    assert repeats_probe(SmallCorpus(16, 256), 256, WIDE).blocks.max() == 15
    with pytest.raises(ProbeError, match=r"context of 16.*blocks of 7 tokens.*at least 8"):
        repeats_probe(SmallCorpus(), 16, WIDE)


def test_on_a_corpus_with_triggers_only_they_are_queried() -> None:
    corpus = SmallCorpus(triggers=np.array([3, 5]))
    probe = repeats_probe(corpus, 40, WIDE)
    assert set(probe.tokens[probe.queried].tolist()) <= {3, 5}
    queries = (probe.lookup.keys >= 0).any(-1).numpy()
    assert queries.any(1).all()
    assert set(probe.tokens[queries].tolist()) <= {3, 5}


def test_held_out_windows_start_with_bos_and_remember_one_position() -> None:
    probe = held_out_probe(SmallCorpus(), 24, MeasureOptions())
    assert probe.tokens.shape == (1024, 25)
    assert (probe.position >= 1).all()
    assert (probe.position <= 24).all()
    assert len(np.unique(probe.position)) == 24


def test_probes_depend_on_their_own_seed_alone() -> None:
    a, b = (repeats_probe(SmallCorpus(), 24, WIDE) for _ in range(2))
    other = repeats_probe(SmallCorpus(), 24, RepeatsProbeOptions(sequences=12, quantiles=(0, 1), seed=5))
    assert a.hash == b.hash != other.hash


def test_hashes_are_what_they_have_always_been() -> None:
    """Golden: a changed hash means that runs are no longer measured on the same sequences."""
    assert repeats_probe(SmallCorpus(), 24, WIDE).hash[:16] == "d673deb906ee902c"
    assert held_out_probe(SmallCorpus(), 24, MeasureOptions()).hash[:16] == "b40307e033b2ecc2"


def test_one_held_out_document_leaves_no_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = SmallCorpus()
    whole = corpus.held_out(8, 24, 0)
    one = HeldOut(tokens=whole.tokens, document=np.zeros(8, np.int32))
    monkeypatch.setattr(corpus, "held_out", lambda *arguments: one)
    with pytest.raises(ProbeError, match=r"lie in one held-out document.*raise data\.held_out_share"):
        held_out_probe(corpus, 24, MeasureOptions())
