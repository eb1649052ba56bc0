"""Random numbers as a pure function of (key, index, place), vectorised over all three.

Notable features:
- no state: any batch of sequences is generated in one go, in any order, on any number of processes;
- a word is `mix(mix(key + index·φ) ⊕ mix(place·ψ))` with the finaliser of splitmix64 (Steele et al. 2014). The ⊕ keeps
  two sequences from ever being shifted copies of each other, as plain counters on one cycle could be; φ ≠ ψ keeps
  (index, place) and (place, index) apart;
- bounded integers by multiply and shift: their bias is bound / 2³², below anything a corpus could show;
- discrete laws by Walker's alias method: two look-ups a draw whatever the vocabulary.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int, UInt64

_MASK = (1 << 64) - 1
_PHI = 0x9E3779B97F4A7C15
_PSI = 0xD1B54A32D192ED03
_A, _B = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_32 = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


def mix(x: UInt64[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
    """The finaliser of splitmix64, a bijection of 64-bit words, in place."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(_A)
    x ^= x >> np.uint64(27)
    x *= np.uint64(_B)
    x ^= x >> np.uint64(31)
    return x


def derive_key(*parts: int) -> int:
    """A 64-bit key from whole numbers; the order of the parts matters."""
    state = 0
    for part in parts:
        # (state, part) → state is a bijection in each argument, so no two parts give one key from the same state
        word = np.array([(state ^ (part * _PHI + _PHI)) & _MASK], dtype=np.uint64)
        state = (int(mix(word)[0]) + _PHI) & _MASK
    return state


@lru_cache(maxsize=64)
def _places(count: int) -> UInt64[np.ndarray, " count"]:
    places = mix(np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_PSI))
    places.flags.writeable = False
    return places


def words(key: int, indices: Int[np.ndarray, " n"], count: int) -> UInt64[np.ndarray, "n count"]:
    """`count` independent uniform 64-bit words for each index."""
    rows = np.asarray(indices, dtype=np.int64).astype(np.uint64)
    rows *= np.uint64(_PHI)
    rows += np.uint64(key)
    return mix(mix(rows)[:, None] ^ _places(count)[None, :])


def high(word: UInt64[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
    """The upper 32 bits."""
    return word >> _32


def low(word: UInt64[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
    """The lower 32 bits, independent of the upper ones."""
    return word & _LOW


def below(
    half: UInt64[np.ndarray, "..."], bound: int | Int[np.ndarray, "..."] | UInt64[np.ndarray, "..."]
) -> Int[np.ndarray, "..."]:
    """Uniform whole numbers in [0, bound) from 32-bit words; bound < 2³¹."""
    return ((half * np.asarray(bound, dtype=np.uint64)) >> _32).astype(np.int64)


def uniform(half: UInt64[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Uniform floats strictly inside (0, 1) from 32-bit words."""
    return (half.astype(np.float64) + 0.5) * 2.0**-32


class AliasTable:
    """Draws from rows of discrete laws over the outcomes 0 … V−1, exact to 2⁻³².

    `law` is [rows, V] or [V]; every row sums to 1.
    """

    def __init__(self, law: Float[np.ndarray, "*rows V"]) -> None:
        law = np.atleast_2d(np.asarray(law, dtype=np.float64))
        assert np.allclose(law.sum(axis=1), 1), "rows of a law sum to 1"
        self.outcomes = law.shape[1]
        pairs = [_alias_row(row) for row in law]
        # flat, so that row r, column c is read at r·V + c in a single look-up
        self.threshold: UInt64[np.ndarray, " rows*V"] = np.concatenate([pair[0] for pair in pairs])
        self.alias: Int[np.ndarray, " rows*V"] = np.concatenate([pair[1] for pair in pairs])

    def columns(self, word: UInt64[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """The table column that a word falls into; `pick` completes the draw."""
        return below(high(word), self.outcomes)

    def pick(
        self, columns: Int[np.ndarray, "..."], half: UInt64[np.ndarray, "..."], cells: Int[np.ndarray, "..."]
    ) -> Int[np.ndarray, "..."]:
        """Outcomes for columns, the lower halves of their words, and the flat cells row·V + column."""
        return np.where(half < self.threshold.take(cells), columns, self.alias.take(cells))

    def draw(self, word: UInt64[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """One outcome a word from the first row."""
        columns = self.columns(word)
        return self.pick(columns, low(word), columns)


def _alias_row(law: Float[np.ndarray, " V"]) -> tuple[UInt64[np.ndarray, " V"], Int[np.ndarray, " V"]]:
    """Thresholds (out of 2³²) and aliases by Vose's method."""
    size = len(law)
    share = (law * size).tolist()
    alias = list(range(size))
    small = [i for i, s in enumerate(share) if s < 1]
    large = [i for i, s in enumerate(share) if s >= 1]
    while small and large:
        less, more = small.pop(), large[-1]
        alias[less] = more
        share[more] -= 1 - share[less]
        if share[more] < 1:
            small.append(large.pop())
    for rest in small + large:  # what rounding left over fills its own column
        share[rest] = 1.0
    return np.rint(np.clip(share, 0, 1) * 2.0**32).astype(np.uint64), np.array(alias, dtype=np.int64)
