"""The data order is a pure function: every window once an epoch, each epoch in another order."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from induction_bump.data.order import window_of


@given(st.integers(1, 3000), st.integers(0, 2**63), st.integers(0, 1000))
def test_every_window_comes_exactly_once_in_each_epoch(windows: int, seed: int, epoch: int):
    order = window_of(np.arange(windows) + epoch * windows, windows, seed)
    assert np.array_equal(np.sort(order), np.arange(windows))


@given(st.integers(2, 10**12), st.integers(0, 2**32), st.lists(st.integers(0, 10**15), min_size=1, max_size=20))
def test_a_sequences_window_does_not_depend_on_what_is_asked_for_with_it(windows: int, seed: int, indices: list[int]):
    together = window_of(np.array(indices), windows, seed)
    assert ((together >= 0) & (together < windows)).all()
    assert together.tolist() == [int(window_of(np.array([index]), windows, seed)[0]) for index in indices]


def test_a_large_corpus_is_a_permutation_across_an_epochs_end():
    windows = 1_000_003
    order = window_of(np.arange(2 * windows), windows, 5)
    for epoch in order.reshape(2, windows):
        assert np.bincount(epoch, minlength=windows).max() == 1


def test_epochs_and_seeds_have_orders_of_their_own():
    first, second = window_of(np.arange(2000), 1000, 0).reshape(2, 1000)
    other = window_of(np.arange(1000), 1000, 1)
    for a, b in ((first, second), (first, other), (second, other)):
        assert (a == b).mean() < 0.01


@pytest.mark.parametrize("windows", [5, 12, 100])
def test_every_place_is_equally_likely_for_a_window(windows: int):
    seeds = 3000
    places = np.array([window_of(np.array([0, windows - 1]), windows, seed) for seed in range(seeds)])
    for column in places.T:
        counts = np.bincount(column, minlength=windows)
        assert np.abs(counts - seeds / windows).max() < 6 * np.sqrt(seeds / windows)


def test_neighbouring_windows_are_torn_apart():
    order = window_of(np.arange(10_000), 10_000, 3)
    assert (np.abs(np.diff(order)) == 1).mean() < 0.002
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.05
    assert abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 0.05


def test_the_order_stays_what_it_was():
    order = window_of(np.arange(3000), 1234, 7)
    assert hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()[:16] == "e41065f108db0bbd"
