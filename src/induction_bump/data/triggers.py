"""The `triggers` corpus: the bigram language with trigger tokens of Bietti et al. 2023 (arXiv 2306.00802), §3.

Once for the language (from `language_seed`): a bigram table π_b whose rows are Dirichlet, and its stationary law π_u.
For each window: K trigger tokens q_k from π_u without replacement (or the K most frequent tokens), and an output o_k
for each, uniform over all tokens and with replacement. Then

    t_1 ~ π_u;    t_{i+1} = o_k where t_i = q_k,    t_{i+1} ~ π_b(· | t_i) elsewhere.

BOS, where there is one, is t_0 and stands outside the language. As in the paper an output may be a trigger itself, even
its own, so a few windows end in a loop.
"""

import numpy as np
from jaxtyping import Float, Int

from induction_bump.data.generator import AliasTable, below, derive_key, high, low, uniform, words
from induction_bump.data.options import TriggersOptions
from induction_bump.data.repeats import BOS

_TOKENS, _TRIGGERS, _OUTPUTS, _FIRST = 1, 2, 3, 4  # streams of a key


class TriggersGenerator:
    """Windows of the `triggers` corpus as a pure function of (key, index)."""

    def __init__(self, options: TriggersOptions, *, prepend_bos: bool) -> None:
        self.options = options
        self.prepend_bos = prepend_bos
        size = options.vocab_size - 1
        # Everything below counts the language's own tokens from 0; BOS shifts them by one on the way out.
        random = np.random.Generator(np.random.PCG64(options.language_seed))
        self.bigrams: Float[np.ndarray, "V-1 V-1"] = random.dirichlet(np.full(size, options.concentration), size=size)
        self._law = stationary(self.bigrams)
        self._next = AliasTable(self.bigrams)
        self._unigrams = AliasTable(self._law)
        self.frequencies: Float[np.ndarray, " V"] = np.concatenate([[0.0], self._law])

    def triggers(self, key: int, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, "n K"]:
        """Token ids of each window's triggers q_k."""
        count = self.options.triggers
        if self.options.fixed_triggers:
            most_frequent = np.argsort(-self._law, kind="stable")[:count] + 1
            return np.tile(most_frequent, (len(indices), 1))
        # the K smallest of independent exponential times with rates π_u are a draw without replacement
        bits = high(words(derive_key(key, _TRIGGERS), indices, len(self._law)))
        times = -np.log(uniform(bits)) / np.maximum(self._law, np.finfo(float).tiny)
        return np.argsort(times, axis=1, kind="stable")[:, :count] + 1

    def outputs(self, key: int, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, "n K"]:
        """Token ids o_k that follow each window's triggers."""
        bits = high(words(derive_key(key, _OUTPUTS), indices, self.options.triggers))
        return below(bits, len(self._law)) + 1

    def generate(self, key: int, indices: Int[np.ndarray, " n"], length: int) -> Int[np.ndarray, "n T+1"]:
        """Windows t_0 … t_T of the sequences at `indices`, T = length."""
        n, size = len(indices), len(self._law)
        start = 1 if self.prepend_bos else 0
        count = length + 1 - start
        # where a trigger leads, −1 for every other token; row by row in one flat table
        leads = np.full(n * size, -1, dtype=np.int64)
        rows = np.arange(n) * size
        leads[rows[:, None] + self.triggers(key, indices) - 1] = self.outputs(key, indices) - 1

        # place by place over the whole batch, so places come first
        draws = np.ascontiguousarray(words(derive_key(key, _TOKENS), indices, count).T)
        columns, halves = self._next.columns(draws), low(draws)
        tokens = np.empty((count, n), dtype=np.int64)
        tokens[0] = now = self._unigrams.draw(words(derive_key(key, _FIRST), indices, 1)[:, 0])
        for i in range(1, count):
            follow = self._next.pick(columns[i], halves[i], now * size + columns[i])
            led = leads.take(rows + now)
            tokens[i] = now = np.where(led < 0, follow, led)
        window = np.full((n, length + 1), BOS, dtype=np.int64)
        window[:, start:] = tokens.T + 1
        return window


def stationary(bigrams: Float[np.ndarray, "V V"]) -> Float[np.ndarray, " V"]:
    """The law π with π = π·bigrams."""
    size = len(bigrams)
    # one of the balance equations follows from the others; the sum of π takes its place
    equations = bigrams.T - np.eye(size)
    equations[-1] = 1
    right = np.zeros(size)
    right[-1] = 1
    law = np.clip(np.linalg.solve(equations, right), 0, None)
    return law / law.sum()
