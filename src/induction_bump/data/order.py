"""The order of training windows: a seeded permutation of them, epoch after epoch, computed one index at a time.

The n windows are laid out on a grid of a × b ≥ n cells, a ≈ b. A Feistel network in which each coordinate is shifted
in turn by a hash of the other is a bijection of the cells; walking along its cycles past the fewer than a empty cells
makes it one of 0 … n−1 (Black and Rogaway 2002). Nothing is stored, so memory does not grow with the corpus.
"""

import math

import numpy as np
from jaxtyping import Int, UInt64

from induction_bump.data.generator import derive_key, high, mix

_ORDER = 21  # the stream of a seed
_ROUNDS = np.array([derive_key(_ORDER, number) for number in range(6)], dtype=np.uint64)


def window_of(indices: Int[np.ndarray, " n"], windows: int, seed: int) -> Int[np.ndarray, " n"]:
    """Which of `windows` windows training sequence number `indices` reads.

    Sequences e·windows … (e+1)·windows − 1 read every window exactly once, in an order of their own for each epoch e.
    """
    assert windows > 0, windows
    epochs, places = np.divmod(np.asarray(indices, dtype=np.int64), windows)
    keys = mix(epochs.astype(np.uint64) + np.uint64(derive_key(_ORDER, seed)))
    round_keys = mix(keys[None, :] ^ _ROUNDS[:, None])
    values = _permute(places.astype(np.uint64), round_keys, windows)
    outside = np.flatnonzero(values >= windows)
    while outside.size:
        values[outside] = _permute(values[outside], round_keys[:, outside], windows)
        outside = outside[values[outside] >= windows]
    return values.astype(np.int64)


def _permute(
    cells: UInt64[np.ndarray, " n"], round_keys: UInt64[np.ndarray, "r n"], windows: int
) -> UInt64[np.ndarray, " n"]:
    """A bijection of the grid's cells for each column of keys."""
    across = math.isqrt(windows - 1) + 1
    down = -(-windows // across)
    a, b = np.uint64(across), np.uint64(down)
    left, right = np.divmod(cells, a)
    for even, odd in zip(round_keys[::2], round_keys[1::2], strict=True):
        left = (left + _shift(right, even, b)) % b
        right = (right + _shift(left, odd, a)) % a
    return left * a + right


def _shift(
    value: UInt64[np.ndarray, " n"], key: UInt64[np.ndarray, " n"], bound: np.uint64
) -> UInt64[np.ndarray, " n"]:
    return (high(mix(value ^ key)) * bound) >> np.uint64(32)
