"""The `repeats` corpus is what its options say: compared with a naive loop over places, and with its laws."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from induction_bump.data.generator import below, derive_key, high, low, words
from induction_bump.data.options import RepeatsOptions
from induction_bump.data.repeats import BOS, RepeatsGenerator

FRESH = RepeatsOptions(copy_share=0.0)


def naive(options: RepeatsOptions, bos: bool, key: int, index: int, length: int) -> tuple[list[int], list]:
    """One window by a loop over places, with its segments (place, start, full length)."""
    at = np.array([index])
    fresh = RepeatsGenerator(
        RepeatsOptions(vocab_size=options.vocab_size, zipf=options.zipf, copy_share=0), prepend_bos=bos
    )
    tokens = fresh.generate(key, at, length)[0].tolist()
    width = len(tokens)
    first_source = 1 if bos else 0
    (shortest, longest), (near, far) = options.segment, options.gap
    place, segments, chance = options.first_copy, [], 0
    chances = max(0, (width - 1 - place) // near + 1)
    draws = words(derive_key(key, 2), at, 2 * chances)[0]
    while place < width:
        choice, where = draws[chance : chance + 1], draws[chances + chance : chances + chance + 1]
        chance += 1
        if int(high(choice)[0]) < options.copy_share * 2**32:
            most = min(longest, place - first_source)
            size = shortest + int(below(high(where), most - shortest + 1)[0])
            start = first_source + int(below(low(where), place - size - first_source + 1)[0])
            segments.append((place, start, size))
            for step in range(size):
                if place + step < width:
                    tokens[place + step] = tokens[start + step]
            place += size
        place += near + int(below(low(choice), far - near + 1)[0])
    return tokens, segments


shapes = st.builds(
    lambda lo, more, gap, wider, share, extra: RepeatsOptions(
        vocab_size=40,
        first_copy=lo + 1 + extra,
        segment=(lo, lo + more),
        gap=(gap, gap + wider),
        copy_share=share,
    ),
    st.integers(1, 6), st.integers(0, 30), st.integers(1, 6), st.integers(0, 9), st.floats(0, 1), st.integers(0, 12),
)  # fmt: skip


@given(shapes, st.booleans(), st.integers(0, 2**40), st.integers(2, 120))
@settings(max_examples=150, deadline=None)
def test_windows_equal_a_naive_loop_over_places(options: RepeatsOptions, bos: bool, key: int, length: int):
    generator = RepeatsGenerator(options, prepend_bos=bos)
    indices = np.array([0, 3, 10**12])
    found = generator.generate(key, indices, length)
    assert found.dtype == np.int64
    for row, index in zip(found, indices, strict=True):
        assert row.tolist() == naive(options, bos, key, int(index), length)[0]


@given(shapes, st.booleans(), st.integers(0, 2**40))
@settings(max_examples=60, deadline=None)
def test_a_source_lies_wholly_before_its_copy_and_never_holds_bos(options: RepeatsOptions, bos: bool, key: int):
    tokens, segments = naive(options, bos, key, 5, 100)
    for place, start, size in segments:
        assert place >= options.first_copy
        assert (1 if bos else 0) <= start <= start + size <= place
        end = min(place + size, 101)
        assert tokens[place:end] == tokens[start : start + end - place]


def changed(options: RepeatsOptions, sequences: int = 3000, length: int = 128) -> np.ndarray:
    """Where windows differ from the same windows without copies: copied, and another token than the fresh one."""
    with_copies = RepeatsGenerator(options, prepend_bos=True).generate(9, np.arange(sequences), length)
    without = RepeatsGenerator(FRESH, prepend_bos=True).generate(9, np.arange(sequences), length)
    return with_copies != without


def test_nothing_is_copied_before_first_copy_and_something_is_at_it():
    differs = changed(RepeatsOptions(copy_share=1.0))
    assert not differs[:, :40].any()
    # every window copies to place 40; a copied token equals the fresh one with probability Σp²
    law = 1 / np.arange(1, 256)
    law /= law.sum()
    assert abs(differs[:, 40].mean() - (1 - (law**2).sum())) < 0.03


def test_copy_share_is_the_probability_of_a_copy_at_the_first_chance():
    always = changed(RepeatsOptions(copy_share=1.0))[:, 40].mean()
    assert abs(changed(RepeatsOptions(copy_share=0.3))[:, 40].mean() / always - 0.3) < 0.03


def test_the_share_of_copied_tokens_is_what_segments_and_gaps_make_it():
    # far from both ends a cycle is copy_share · 20 copied and 14 fresh tokens on average
    options = RepeatsOptions(zipf=0.0, vocab_size=4000)
    fresh = RepeatsOptions(zipf=0.0, vocab_size=4000, copy_share=0.0)
    pair = [RepeatsGenerator(o, prepend_bos=True).generate(2, np.arange(300), 2000) for o in (options, fresh)]
    share = (pair[0] != pair[1])[:, 500:1900].mean()
    assert abs(share - 0.7 * 20 / (0.7 * 20 + 14)) < 0.01


def test_without_copies_tokens_are_independent_zipf_draws():
    generator = RepeatsGenerator(RepeatsOptions(copy_share=0.0), prepend_bos=True)
    tokens = generator.generate(1, np.arange(4000), 128)[:, 1:]
    counts = np.bincount(tokens.ravel(), minlength=256)
    expected = generator.frequencies * tokens.size
    assert counts[BOS] == 0
    assert (np.abs(counts - expected) < 6 * np.sqrt(expected) + 1).all()
    same = (generator.frequencies**2).sum()
    for lag in (1, 2, 7):
        found = (tokens[:, lag:] == tokens[:, :-lag]).mean()
        assert abs(found - same) < 6 * np.sqrt(same / tokens.size)


def test_frequencies_are_the_zipf_law_also_with_copies():
    generator = RepeatsGenerator(RepeatsOptions(zipf=1.3), prepend_bos=True)
    ranks = np.arange(1, 256) ** -1.3
    assert np.allclose(generator.frequencies[1:], ranks / ranks.sum())
    assert generator.frequencies[BOS] == 0
    tokens = generator.generate(1, np.arange(25_000), 128)[:, 1:]
    counts = np.bincount(tokens.ravel(), minlength=256)[1:20] / tokens.size
    assert np.allclose(counts, generator.frequencies[1:20], rtol=0.05)


@pytest.mark.parametrize("bos", [True, False])
def test_bos_is_the_first_token_or_nowhere(bos: bool):
    tokens = RepeatsGenerator(RepeatsOptions(), prepend_bos=bos).generate(1, np.arange(300), 128)
    assert (tokens[:, 0] == BOS).all() == bos
    assert (tokens[:, 1:] != BOS).all()
    assert tokens.max() < 256


def test_the_first_windows_stay_what_they_were():
    tokens = RepeatsGenerator(RepeatsOptions(), prepend_bos=True).generate(derive_key(0), np.arange(64), 128)
    assert hashlib.sha256(tokens.astype("<i8").tobytes()).hexdigest()[:16] == "e689336089702461"
