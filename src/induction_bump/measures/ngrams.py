"""Unigram and interpolated bigram models of a training corpus: what a model's losses are compared with (H24).

    p(v)     = (n(v) + 1) / (n + V)                             n predicted tokens were counted, n(v) of them are v
    p(v | a) = λ_b(a) c(a, v) / c(a) + (1 − λ_b(a)) p(v)        Jelinek and Mercer 1980

c(a, v) counts a followed by v inside training windows: t_1 … t_T each with the token before it, so what follows BOS
counts like any other context. b(a) = ⌊log2 c(a)⌋; contexts of one bucket share a weight, and one that was never seen
has λ = 0. The weights maximise the likelihood of held-out windows. It is concave in each of them, so bisection of its
derivative finds the maximum that expectation maximisation climbs to. A bucket tested on m held-out tokens has
λ ≤ m / (m + 1), so that no token is ever impossible; one that was not tested has its nearest neighbour's λ.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from induction_bump.data.building import locked, whole_or_not_at_all
from induction_bump.data.cache import entry
from induction_bump.data.corpus import Corpus, CorpusError
from induction_bump.measures.options import NgramOptions

FORMAT = 1
"""Raised whenever counts, weights or their file would come out differently."""
TOKENS_AT_ONCE = 1 << 18
"""Tokens that are counted, or looked up, at once."""
_BUCKETS = 63  # floor(log2) of any 64-bit count
_BISECTIONS = 60  # halves of [0, 1] until float64 knows no smaller one
_FEWEST_HELD_OUT = 2  # windows
_TOLD_APART_BY = 16  # training windows that go into the key of the cache


@dataclass(frozen=True)
class Ngrams:
    """Counts of pairs and the weights of their interpolation; a context is the token before the predicted one."""

    vocab_size: int
    """V."""
    pairs: Int[np.ndarray, " P"]
    """The pairs that occur, as a · V + v, in ascending order."""
    counts: Int[np.ndarray, " P"]
    """c(a, v) of each."""
    weights: Float[np.ndarray, " buckets"]
    """λ_b, b = 0, 1, …; each in [0, 1)."""

    @property
    def counted(self) -> int:
        """n, how many predicted tokens were counted."""
        return int(self.counts.sum())

    @cached_property
    def unigram(self) -> Float[np.ndarray, " V"]:
        """p(v)."""
        occurrences = np.bincount(self.pairs % self.vocab_size, self.counts, self.vocab_size)
        return (occurrences + 1) / (self.counted + self.vocab_size)

    @cached_property
    def context_counts(self) -> Int[np.ndarray, " V"]:
        """c(a) = Σ_v c(a, v)."""
        return np.bincount(self.pairs // self.vocab_size, self.counts, self.vocab_size).astype(np.int64)

    @cached_property
    def context_weights(self) -> Float[np.ndarray, " V"]:
        """λ of each context, 0 where it was never seen."""
        return np.where(self.context_counts > 0, self.weights[_bucket(self.context_counts)], 0.0)

    @cached_property
    def entropies(self) -> Float[np.ndarray, " V"]:
        """−Σ_v p(v | a) ln p(v | a) of each context, in nats."""
        rest, p = 1 - self.context_weights, self.unigram  # rest · p(v): what a pair without a count has
        context, following = np.divmod(self.pairs, self.vocab_size)
        uncounted = rest[context] * p[following]
        counted = uncounted + self.context_weights[context] * self.counts / self.context_counts[context]
        correction = counted * np.log(counted) - uncounted * np.log(uncounted)
        whole = rest * (np.log(rest) + (p * np.log(p)).sum())
        return -(whole + np.bincount(context, correction, self.vocab_size))

    def losses(self, tokens: Int[np.ndarray, "N T+1"]) -> tuple[Float[np.ndarray, "N T"], Float[np.ndarray, "N T"]]:
        """−ln p(t_k) and −ln p(t_k | t_{k−1}), k = 1 … T, in nats."""
        unigram, bigram = np.empty((2, len(tokens), tokens.shape[1] - 1))
        size = max(1, TOKENS_AT_ONCE // tokens.shape[1])
        for start in range(0, len(tokens), size):
            here = slice(start, start + size)
            relative, p = self.frequencies(tokens[here, :-1], tokens[here, 1:])
            weight = self.context_weights[tokens[here, :-1]]
            unigram[here] = -np.log(p)
            bigram[here] = -np.log(weight * relative + (1 - weight) * p)
        return unigram, bigram

    def rows(self, contexts: Int[np.ndarray, " R"]) -> Float[np.ndarray, "R V"]:
        """p(· | a) of each context, over the whole vocabulary."""
        contexts = np.asarray(contexts, np.int64)
        weights = self.context_weights[contexts]
        rows = (1 - weights)[:, None] * self.unigram
        starts, stops = (np.searchsorted(self.pairs, (contexts + end) * self.vocab_size) for end in (0, 1))
        lengths = stops - starts
        row = np.repeat(np.arange(len(contexts)), lengths)
        place = np.arange(lengths.sum()) + np.repeat(stops - np.cumsum(lengths), lengths)
        scale = weights / np.maximum(self.context_counts[contexts], 1)
        rows[row, self.pairs[place] % self.vocab_size] += scale[row] * self.counts[place]
        return rows

    def frequencies(
        self, contexts: Int[np.ndarray, "*N"], following: Int[np.ndarray, "*N"]
    ) -> tuple[Float[np.ndarray, "*N"], Float[np.ndarray, "*N"]]:
        """What p(v | a) interpolates: c(a, v) / c(a), 0 for a context that was never seen, and p(v)."""
        wanted = contexts.astype(np.int64) * self.vocab_size + following
        place = np.minimum(np.searchsorted(self.pairs, wanted), len(self.pairs) - 1)
        count = np.where(self.pairs[place] == wanted, self.counts[place], 0)
        return count / np.maximum(self.context_counts[contexts], 1), self.unigram[following]


def find_or_build(corpus: Corpus, context: int, options: NgramOptions, cache: Path) -> Ngrams:
    """The n-gram models of a corpus, counted once and kept below `<cache>/ngrams`.

    `context` is the T of windows. One process of a machine, or of several that share the cache and its locks, counts;
    those that come meanwhile wait and find it. Raises CorpusError where the corpus holds fewer than 2 held-out windows.
    """
    path = cache / "ngrams" / f"{_key(corpus, context, options)}.npz"
    stored = partial(_stored, vocab_size=corpus.vocab_size)
    found = entry(path, stored)
    if found is not None:
        return found
    with ExitStack() as held:
        with suppress(OSError):  # a cache that cannot be written, or has no locks, costs time, not the run
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(path.with_suffix(".lock")))
        found = entry(path, stored)  # made while this process waited
        if found is None:
            found = build(corpus, context, options)
            _store(found, path)
    return found


def build(corpus: Corpus, context: int, options: NgramOptions) -> Ngrams:
    """Count training windows and fit the weights on held-out ones."""
    pairs, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    for windows in _training_windows(corpus, options):
        new = np.unique(windows[:, :-1] * corpus.vocab_size + windows[:, 1:], return_counts=True)
        pairs, counts = _merged(np.concatenate([pairs, new[0]]), np.concatenate([counts, new[1]]))
    ngrams = Ngrams(corpus.vocab_size, pairs, counts, np.zeros(_BUCKETS))
    return replace(ngrams, weights=_fitted(ngrams, _held_out(corpus, context, options)))


def _training_windows(corpus: Corpus, options: NgramOptions) -> Iterator[Int[np.ndarray, "n T+1"]]:
    """As many whole windows as the budget and an epoch allow, one at least, in blocks."""
    number = max(1, options.tokens // corpus.context)
    if corpus.windows_per_epoch is not None:
        number = min(number, corpus.windows_per_epoch)
    size = max(1, TOKENS_AT_ONCE // corpus.context)
    for start in range(0, number, size):
        yield corpus.windows(np.arange(start, min(start + size, number)), options.seed)


def _merged(
    pairs: Int[np.ndarray, " P"], counts: Int[np.ndarray, " P"]
) -> tuple[Int[np.ndarray, " Q"], Int[np.ndarray, " Q"]]:
    """Each pair once, in ascending order, with the sum of its counts."""
    order = np.argsort(pairs, kind="stable")  # two ascending runs one after the other take it a single merge
    pairs, counts = pairs[order], counts[order]
    first = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]]))
    return pairs[first], np.add.reduceat(counts, first)


def _held_out(corpus: Corpus, context: int, options: NgramOptions) -> Int[np.ndarray, "N T+1"]:
    """Held-out windows to fit the weights on: fewer than asked for, by halves, where the corpus has fewer."""
    number = options.held_out
    while True:
        try:
            return corpus.held_out(number, context, options.seed).tokens
        except CorpusError:
            if number <= _FEWEST_HELD_OUT:
                raise
            number = max(_FEWEST_HELD_OUT, number // 2)


def _bucket(counts: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """⌊log2⌋ of counts from 1 on; 0 for 0."""
    return np.maximum(np.frexp(counts)[1] - 1, 0)


def _fitted(ngrams: Ngrams, tokens: Int[np.ndarray, "N T+1"]) -> Float[np.ndarray, " buckets"]:
    """λ of each bucket, from held-out windows. All 0 where these hold no context that was counted."""
    contexts, following = tokens[:, :-1].ravel(), tokens[:, 1:].ravel()
    seen = ngrams.context_counts[contexts] > 0
    contexts, following = contexts[seen], following[seen]
    bucket = _bucket(ngrams.context_counts[contexts])
    tested = np.bincount(bucket, minlength=_BUCKETS)
    if not tested.any():
        return np.zeros(_BUCKETS)
    relative, p = ngrams.frequencies(contexts, following)
    low, high = np.zeros(_BUCKETS), tested / (tested + 1)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        weight = middle[bucket]
        slope = np.bincount(bucket, (relative - p) / (weight * relative + (1 - weight) * p), _BUCKETS)
        low, high = np.where(slope > 0, middle, low), np.where(slope > 0, high, middle)
    there = np.flatnonzero(tested)
    distance = np.abs(np.arange(_BUCKETS)[:, None] - there)
    return ((low + high) / 2)[there[distance.argmin(1)]]  # the smaller of two neighbours as near as each other


def _key(corpus: Corpus, context: int, options: NgramOptions) -> str:
    """Hash of all that decides the counts and weights.

    How windows are cut from a corpus (with BOS or not, and what is held out) shows in their number, the frequencies,
    and the first of them.
    """
    number = min(_TOLD_APART_BY, corpus.windows_per_epoch or _TOLD_APART_BY)
    windows = corpus.windows(np.arange(number), options.seed)
    content = hashlib.sha256(windows.astype("<i8").tobytes())
    content.update(np.asarray(corpus.frequencies, "<f8").tobytes())
    about = [
        FORMAT,
        corpus.fingerprint,
        corpus.tokenizer_hash,
        corpus.vocab_size,
        corpus.bos,
        corpus.context,
        corpus.windows_per_epoch,
        content.hexdigest(),
        context,
        asdict(options),
    ]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]


def _stored(path: Path, vocab_size: int) -> Ngrams:
    """What a file of the cache holds. Raises ValueError, and whatever `np.load` raises, for a damaged one."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        found = Ngrams(vocab_size, arrays["pairs"], arrays["counts"], arrays["weights"])
    pairs, counts, weights = found.pairs, found.counts, found.weights
    sound = (
        pairs.dtype == counts.dtype == np.int64
        and pairs.ndim == 1
        and pairs.shape == counts.shape
        and weights.shape == (_BUCKETS,)
        and len(pairs) > 0
        and pairs[0] >= 0
        and pairs[-1] < vocab_size**2
        and bool((np.diff(pairs) > 0).all())
        and bool((counts > 0).all())
        and bool(((weights >= 0) & (weights < 1)).all())
    )
    if not sound:
        raise ValueError("no counts of this vocabulary")
    return found


def _store(ngrams: Ngrams, path: Path) -> None:
    with suppress(OSError), whole_or_not_at_all(path) as aside, aside.open("wb") as file:  # as above
        np.savez(file, pairs=ngrams.pairs, counts=ngrams.counts, weights=ngrams.weights)
