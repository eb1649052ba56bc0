"""The `triggers` corpus follows B23's language: triggers lead to their outputs, everything else to the bigram table."""

import hashlib

import numpy as np
import pytest

from induction_bump.data.generator import derive_key
from induction_bump.data.options import TriggersOptions
from induction_bump.data.repeats import BOS
from induction_bump.data.triggers import TriggersGenerator, stationary


def make(**options) -> TriggersGenerator:
    return TriggersGenerator(TriggersOptions(**options), prepend_bos=True)


def test_a_trigger_is_always_followed_by_its_windows_output():
    generator, indices = make(), np.arange(500)
    tokens = generator.generate(3, indices, 128)
    triggers, outputs = generator.triggers(3, indices), generator.outputs(3, indices)
    seen = 0
    for window, mine, theirs in zip(tokens, triggers.tolist(), outputs.tolist(), strict=True):
        follows = dict(zip(mine, theirs, strict=True))
        for token, following in zip(window[1:-1].tolist(), window[2:].tolist(), strict=True):
            if token in follows:
                seen += 1
                assert following == follows[token]
    assert seen > 5000


def test_other_tokens_follow_the_bigram_table():
    generator, indices = make(concentration=1.0, vocab_size=16), np.arange(3000)
    tokens, triggers = generator.generate(3, indices, 64), generator.triggers(3, indices)
    counts = np.zeros((16, 16))
    free = ~(tokens[:, :-1, None] == triggers[:, None, :]).any(-1)
    free[:, 0] = False
    np.add.at(counts, (tokens[:, :-1][free], tokens[:, 1:][free]), 1)
    rows = counts[1:, 1:].sum(axis=1, keepdims=True)
    expected = generator.bigrams * rows
    assert (np.abs(counts[1:, 1:] - expected) < 6 * np.sqrt(expected) + 2).all()


def test_a_window_begins_with_bos_and_a_token_from_the_stationary_law():
    generator = make()
    first = generator.generate(5, np.arange(20_000), 2)[:, :2]
    assert (first[:, 0] == BOS).all()
    counts = np.bincount(first[:, 1], minlength=65)
    expected = generator.frequencies * 20_000
    assert (np.abs(counts - expected) < 6 * np.sqrt(expected) + 2).all()


def test_frequencies_are_stationary_under_the_table():
    generator = make()
    law = generator.frequencies[1:]
    assert np.allclose(law @ generator.bigrams, law)
    assert law.sum() == pytest.approx(1)
    assert generator.frequencies[BOS] == 0


def test_the_stationary_law_of_two_states_is_the_known_one():
    assert np.allclose(stationary(np.array([[0.9, 0.1], [0.3, 0.7]])), [0.75, 0.25])


def test_triggers_are_distinct_and_new_in_every_window():
    triggers = make().triggers(1, np.arange(2000))
    assert all(len(set(row)) == 5 for row in triggers.tolist())
    assert triggers.min() >= 1
    assert len({tuple(row) for row in triggers.tolist()}) > 1900


def test_a_windows_first_trigger_is_drawn_from_the_stationary_law():
    generator = make()
    counts = np.bincount(generator.triggers(1, np.arange(20_000))[:, 0], minlength=65)
    expected = generator.frequencies * 20_000
    assert (np.abs(counts - expected) < 6 * np.sqrt(expected) + 2).all()


def test_outputs_are_uniform_over_all_tokens():
    outputs = make().outputs(1, np.arange(20_000))
    counts = np.bincount(outputs.ravel(), minlength=65)
    assert counts[BOS] == 0
    assert np.abs(counts[1:] - 100_000 / 64).max() < 6 * np.sqrt(100_000 / 64)


def test_fixed_triggers_are_the_most_frequent_tokens_of_every_window():
    generator = make(fixed_triggers=True, triggers=3)
    triggers = generator.triggers(1, np.arange(10))
    assert (triggers == triggers[0]).all()
    assert set(triggers[0].tolist()) == set(np.argsort(generator.frequencies)[-3:].tolist())


def test_the_language_belongs_to_its_seed_alone():
    assert np.array_equal(make(language_seed=4).bigrams, make(language_seed=4, triggers=2).bigrams)
    assert not np.array_equal(make(language_seed=4).bigrams, make(language_seed=5).bigrams)


def test_a_window_does_not_depend_on_the_batch_around_it():
    generator = make()
    assert np.array_equal(
        generator.generate(8, np.arange(50), 40)[[7, 31]], generator.generate(8, np.array([7, 31]), 40)
    )


def test_without_bos_the_first_token_belongs_to_the_language():
    tokens = TriggersGenerator(TriggersOptions(), prepend_bos=False).generate(8, np.arange(50), 40)
    assert tokens.shape == (50, 41)
    assert tokens.min() >= 1


def test_the_first_windows_stay_what_they_were():
    tokens = make().generate(derive_key(0), np.arange(64), 128)
    assert hashlib.sha256(tokens.astype("<i8").tobytes()).hexdigest()[:16] == "548e0799cacc010a"
