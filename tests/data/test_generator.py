"""Random numbers are a pure function of (key, index, place) and follow the laws they are asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from induction_bump.data.generator import AliasTable, below, derive_key, high, low, uniform, words


def test_a_word_does_not_depend_on_the_batch_around_it():
    together = words(7, np.arange(100), 50)
    assert np.array_equal(words(7, np.array([93, 4]), 50), together[[93, 4]])
    assert np.array_equal(words(7, np.arange(100), 20), together[:, :20])


def test_keys_indices_and_places_give_different_words():
    everything = np.concatenate([words(key, np.arange(200), 100).ravel() for key in (0, 1, 2**63)])
    assert len(np.unique(everything)) == everything.size


def test_bits_are_fair_and_neighbours_uncorrelated():
    drawn = words(3, np.arange(400), 256)
    for bit in range(64):
        ones = (drawn >> np.uint64(bit)) & np.uint64(1)
        assert abs(ones.mean() - 0.5) < 5 * 0.5 / np.sqrt(drawn.size)
    values = uniform(high(drawn))
    for a, b in ((values[:, 1:], values[:, :-1]), (values[1:], values[:-1]), (values, uniform(low(drawn)))):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / np.sqrt(a.size)


@given(st.lists(st.integers(0, 2**64), min_size=1, max_size=4), st.integers(0, 3), st.integers(1, 2**32))
def test_a_key_depends_on_every_part(parts: list[int], place: int, change: int):
    changed = list(parts)
    changed[place % len(parts)] += change
    assert derive_key(*parts) != derive_key(*changed)


def test_a_key_depends_on_the_order_of_its_parts():
    assert derive_key(1, 2) != derive_key(2, 1)
    assert derive_key(1) != derive_key(1, 0)


@pytest.mark.parametrize("bound", [1, 2, 7, 1000])
def test_bounded_integers_are_uniform_below_the_bound(bound: int):
    drawn = below(high(words(bound, np.arange(300), 200)), bound)
    counts = np.bincount(drawn.ravel(), minlength=bound)
    assert len(counts) == bound
    expected = drawn.size / bound
    assert abs(counts - expected).max() <= 6 * np.sqrt(expected)


def test_uniform_never_touches_its_ends():
    ends = uniform(np.array([0, 2**32 - 1], dtype=np.uint64))
    assert 0 < ends[0] < ends[1] < 1


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=40).filter(lambda weights: sum(weights) > 1e-3))
def test_an_alias_table_has_exactly_the_law_it_was_made_from(weights: list[float]):
    law = np.array(weights) / sum(weights)
    table = AliasTable(law)
    kept = table.threshold / 2.0**32
    found = kept.copy()
    np.add.at(found, table.alias, 1 - kept)
    assert np.allclose(found / len(law), law, atol=1e-9)


def test_an_alias_table_of_several_rows_draws_from_the_row_that_is_read():
    table = AliasTable(np.array([[1.0, 0.0, 0.0], [0.0, 0.25, 0.75]]))
    drawn = words(1, np.arange(100), 100)
    columns = table.columns(drawn)
    assert (table.pick(columns, low(drawn), columns) == 0).all()
    second = table.pick(columns, low(drawn), 3 + columns)
    assert abs((second == 2).mean() - 0.75) < 0.02
    assert (second != 0).all()
