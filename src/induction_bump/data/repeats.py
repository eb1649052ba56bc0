"""The `repeats` corpus: i.i.d. Zipf tokens in which segments of the same window are copied, again and again.

    place = first_copy
    until the window ends:
        with probability copy_share:
            length is uniform in segment, start uniform where the source ends before `place`
            copy tokens[start : start + length] to `place`;  place += length
        place += gap, uniform

The last segment is cut by the window's end. BOS, where there is one, is t_0 and never copied. Sources may hold earlier
copies. The law of a single token stays exactly the Zipf law: a copy is a token that was drawn from it.
"""

import numpy as np
from jaxtyping import Float, Int

from induction_bump.data.generator import AliasTable, below, derive_key, high, low, words
from induction_bump.data.options import RepeatsOptions

BOS = 0
_TOKENS, _COPIES = 1, 2  # streams of a key


class RepeatsGenerator:
    """Windows of the `repeats` corpus as a pure function of (key, index)."""

    def __init__(self, options: RepeatsOptions, *, prepend_bos: bool) -> None:
        self.options = options
        self.prepend_bos = prepend_bos
        ranks = np.arange(1, options.vocab_size, dtype=np.float64)
        law = ranks**-options.zipf
        law /= law.sum()
        self._table = AliasTable(law)
        self.frequencies: Float[np.ndarray, " V"] = np.concatenate([[0.0], law])

    def generate(self, key: int, indices: Int[np.ndarray, " n"], length: int) -> Int[np.ndarray, "n T+1"]:
        """Windows t_0 … t_T of the sequences at `indices`, T = length."""
        n, width = len(indices), length + 1
        tokens = self._table.draw(words(derive_key(key, _TOKENS), indices, width)) + 1  # ids 1 … V−1
        if self.prepend_bos:
            tokens[:, 0] = BOS
        back = self._distances(key, indices, width)
        if back is None:
            return tokens
        source = np.arange(n * width).reshape(n, width) - back
        # follow copies of copies to the fresh token they come from; the length of the chain halves each time
        while True:
            further = source.take(source)
            if np.array_equal(further, source):
                return tokens.take(source)
            source = further

    def _distances(self, key: int, indices: Int[np.ndarray, " n"], width: int) -> Int[np.ndarray, "n width"] | None:
        """How many places back each token is copied from; 0 where it is fresh. None where no copy can be."""
        options = self.options
        first, (shortest, longest), (near, far) = options.first_copy, options.segment, options.gap
        if options.copy_share == 0 or first >= width:
            return None
        earliest = 1 if self.prepend_bos else 0
        chances = (width - 1 - first) // near + 1  # as many as there are when no copy is made
        draws = words(derive_key(key, _COPIES), indices, 2 * chances)
        copied = high(draws[:, :chances]) < np.uint64(round(options.copy_share * 2**32))
        gaps = near + below(low(draws[:, :chances]), far - near + 1)
        length_bits, start_bits = high(draws[:, chances:]), low(draws[:, chances:])

        n = len(indices)
        # the step up and down of each segment's distance, summed along the window at the end
        steps = np.zeros(n * (width + 1), dtype=np.int64)
        rows = np.arange(n) * (width + 1)
        place = np.full(n, first)
        for chance in range(chances):
            longest_here = np.minimum(longest, place - earliest)
            size = shortest + below(length_bits[:, chance], longest_here - shortest + 1)
            start = earliest + below(start_bits[:, chance], place - size - earliest + 1)
            made = copied[:, chance] & (place < width)
            distance = np.where(made, place - start, 0)
            steps[rows + np.minimum(place, width)] += distance
            place = place + np.where(made, size, 0)
            steps[rows + np.minimum(place, width)] -= distance
            place += gaps[:, chance]
            if place.min() >= width:
                break
        return np.cumsum(steps.reshape(n, width + 1)[:, :-1], axis=1)
