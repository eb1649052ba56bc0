"""Unigram and bigram models of a corpus: against dictionaries, loops, and the maximum of the likelihood."""

import errno
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from math import log
from pathlib import Path

import numpy as np
import pytest

from induction_bump.data.errors import CorpusError
from induction_bump.data.held_out import HeldOut
from induction_bump.measures import ngrams as module
from induction_bump.measures.ngrams import Ngrams, build, find_or_build
from induction_bump.measures.options import NgramOptions
from tests.damage import DAMAGE
from tests.measures.markov import OPTIONS, MarkovCorpus, T, V


@pytest.fixture(scope="module")
def corpus() -> MarkovCorpus:
    return MarkovCorpus()


@pytest.fixture(scope="module")
def ngrams(corpus: MarkovCorpus) -> Ngrams:
    return build(corpus, T, OPTIONS)


class Naive:
    """The same model from dictionaries and loops."""

    def __init__(self, corpus: MarkovCorpus, windows: int, seed: int) -> None:
        self.pairs: Counter[tuple[int, int]] = Counter()
        for window in corpus.windows(np.arange(windows), seed).tolist():
            self.pairs.update(pairwise(window))
        self.contexts: Counter[int] = Counter()
        self.followers: Counter[int] = Counter()
        for (a, v), count in self.pairs.items():
            self.contexts[a] += count
            self.followers[v] += count

    def unigram(self, v: int) -> float:
        return (self.followers[v] + 1) / (self.followers.total() + V)

    def relative(self, a: int, v: int) -> float:
        return self.pairs[a, v] / self.contexts[a] if self.contexts[a] else 0.0

    def bucket(self, a: int) -> int:
        return self.contexts[a].bit_length() - 1  # −1 for a context that was never seen

    def bigram(self, weights: np.ndarray, a: int, v: int) -> float:
        weight = float(weights[self.bucket(a)]) if self.contexts[a] else 0.0
        return weight * self.relative(a, v) + (1 - weight) * self.unigram(v)


@pytest.fixture(scope="module")
def naive(corpus: MarkovCorpus) -> Naive:
    return Naive(corpus, 60, OPTIONS.seed)


@pytest.fixture(scope="module")
def held_out(corpus: MarkovCorpus) -> list[list[int]]:
    return corpus.held_out(OPTIONS.held_out, T, OPTIONS.seed).tokens.tolist()


def pairs_of(ngrams: Ngrams) -> dict[tuple[int, int], int]:
    return {divmod(pair, V): count for pair, count in zip(ngrams.pairs.tolist(), ngrams.counts.tolist(), strict=True)}


@pytest.mark.parametrize("tokens_at_once", [1, 5 * T, 1 << 18])
def test_counts_are_those_of_a_loop_however_windows_are_cut(
    corpus: MarkovCorpus, naive: Naive, monkeypatch: pytest.MonkeyPatch, tokens_at_once: int
) -> None:
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", tokens_at_once)
    ngrams = build(corpus, T, OPTIONS)
    assert pairs_of(ngrams) == dict(naive.pairs)
    assert ngrams.counted == 60 * T
    assert ngrams.context_counts.tolist() == [naive.contexts[a] for a in range(V)]
    assert ngrams.context_counts[0] == 60  # what follows BOS is predicted as well


def test_unigrams_are_relative_frequencies_plus_one(ngrams: Ngrams, naive: Naive) -> None:
    np.testing.assert_allclose(ngrams.unigram, [naive.unigram(v) for v in range(V)], rtol=1e-12)
    assert ngrams.unigram.sum() == pytest.approx(1)


def test_losses_are_those_of_a_loop(corpus: MarkovCorpus, ngrams: Ngrams, naive: Naive) -> None:
    tokens = corpus.held_out(30, T, 99).tokens
    unigram, bigram = ngrams.losses(tokens)
    for n, window in enumerate(tokens.tolist()):
        for k in range(1, T + 1):
            assert unigram[n, k - 1] == pytest.approx(-log(naive.unigram(window[k])))
            assert bigram[n, k - 1] == pytest.approx(-log(naive.bigram(ngrams.weights, window[k - 1], window[k])))


def test_losses_do_not_depend_on_how_they_are_cut(
    corpus: MarkovCorpus, ngrams: Ngrams, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = corpus.held_out(30, T, 99).tokens
    whole = ngrams.losses(tokens)
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", 2 * T)
    assert np.array_equal(whole, ngrams.losses(tokens))


class TestRows:
    """p(· | a) over the whole vocabulary, whether a was seen or not."""

    def test_every_context_has_a_law(self, ngrams: Ngrams) -> None:
        assert ngrams.context_counts[V - 1] == 0
        rows = ngrams.rows(np.arange(V))
        np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-12)
        assert (rows > 0).all()
        np.testing.assert_allclose(rows[V - 1], ngrams.unigram)

    def test_they_are_those_of_a_loop_in_the_order_asked_for(self, ngrams: Ngrams, naive: Naive) -> None:
        contexts = np.array([7, 0, V - 1, 3, 7])
        expected = [[naive.bigram(ngrams.weights, a, v) for v in range(V)] for a in contexts.tolist()]
        np.testing.assert_allclose(ngrams.rows(contexts), expected, rtol=1e-12)

    def test_entropies_are_theirs(self, ngrams: Ngrams) -> None:
        rows = ngrams.rows(np.arange(V))
        np.testing.assert_allclose(ngrams.entropies, -(rows * np.log(rows)).sum(1), rtol=1e-12)


class TestWeights:
    """λ maximises the likelihood of held-out windows."""

    @staticmethod
    def likelihoods(naive: Naive, held_out: list[list[int]], bucket: int, weight: float) -> list[float]:
        return [
            log(weight * naive.relative(a, v) + (1 - weight) * naive.unigram(v))
            for window in held_out
            for a, v in pairwise(window)
            if naive.bucket(a) == bucket
        ]

    def test_no_other_weight_makes_the_held_out_tokens_likelier(
        self, ngrams: Ngrams, naive: Naive, held_out: list[list[int]]
    ) -> None:
        tested = 0
        for bucket in {naive.bucket(a) for a in naive.contexts}:
            fitted = float(ngrams.weights[bucket])
            there = self.likelihoods(naive, held_out, bucket, fitted)
            if not there:
                continue
            tested += 1
            largest = len(there) / (len(there) + 1)
            assert 0 <= fitted <= largest
            for other in [*np.linspace(0, largest, 41), max(0, fitted - 1e-3), min(largest, fitted + 1e-3)]:
                assert sum(there) >= sum(self.likelihoods(naive, held_out, bucket, float(other))) - 1e-9
        assert tested >= 3

    def test_expectation_maximisation_ends_there(self, ngrams: Ngrams, naive: Naive, held_out: list[list[int]]) -> None:
        inside = 0
        for bucket in {naive.bucket(a) for a in naive.contexts}:
            tokens = [
                (naive.relative(a, v), naive.unigram(v))
                for window in held_out
                for a, v in pairwise(window)
                if naive.bucket(a) == bucket
            ]
            if not tokens:
                continue
            weight = 0.5
            for _ in range(5000):
                shares = [weight * f / (weight * f + (1 - weight) * p) for f, p in tokens]
                weight = sum(shares) / len(shares)
            expected = min(weight, len(tokens) / (len(tokens) + 1))
            assert ngrams.weights[bucket] == pytest.approx(expected, abs=1e-4)
            inside += 0.05 < weight < 0.95
        assert inside >= 2

    def test_a_bucket_that_was_not_tested_has_its_nearest_neighbours_weight(
        self, ngrams: Ngrams, naive: Naive, held_out: list[list[int]]
    ) -> None:
        tested = sorted({naive.bucket(a) for window in held_out for a in window[:-1]} - {-1})
        for bucket in range(len(ngrams.weights)):
            nearest = min(tested, key=lambda other: (abs(other - bucket), other))
            assert ngrams.weights[bucket] == ngrams.weights[nearest]

    def test_what_always_happened_is_never_certain(self) -> None:
        """Of m held-out tokens all followed the table: λ = m / (m + 1), and a surprise has a finite loss."""
        corpus = MarkovCorpus()
        corpus.table = np.eye(V - 1)[np.arange(1, V + 1) % (V - 2)]  # one way on from each token: 0, 2, 4 …
        ngrams = build(corpus, T, NgramOptions(tokens=40 * T, held_out=5))
        bucket = int(np.log2(ngrams.context_counts[2]))
        held_out = corpus.held_out(5, T, NgramOptions().seed).tokens[:, :-1]
        tested = (ngrams.context_counts[held_out] >> bucket == 1).sum()
        assert ngrams.weights[bucket] == pytest.approx(tested / (tested + 1), abs=1e-12)
        assert np.isfinite(ngrams.losses(np.array([[0, 2, 2, 9]]))).all()
        assert np.isfinite(ngrams.entropies).all()

    def test_with_no_known_context_held_out_bigrams_are_unigrams(self, corpus: MarkovCorpus) -> None:
        class Elsewhere(MarkovCorpus):
            def held_out(self, examples: int, length: int, seed: int) -> HeldOut:
                return HeldOut(np.full((examples, length + 1), V - 1), np.arange(examples, dtype=np.int32))

        ngrams = build(Elsewhere(), T, OPTIONS)
        assert not ngrams.weights.any()
        np.testing.assert_allclose(*ngrams.losses(corpus.held_out(5, T, 1).tokens))

    def test_fewer_held_out_windows_do_where_there_are_no_more(self, ngrams: Ngrams) -> None:
        few = build(MarkovCorpus(most_held_out=12), T, OPTIONS)  # 40, 20, 10
        assert np.array_equal(few.weights, build(MarkovCorpus(), T, NgramOptions(tokens=60 * T, held_out=10)).weights)
        with pytest.raises(CorpusError, match="only 1 windows"):
            build(MarkovCorpus(most_held_out=1), T, OPTIONS)


class TestBudget:
    """Whole windows, no more tokens than asked for, and none twice."""

    @pytest.mark.parametrize(("tokens", "windows"), [(5 * T, 5), (5 * T + T - 1, 5), (1, 1)])
    def test_it_is_kept(self, corpus: MarkovCorpus, tokens: int, windows: int) -> None:
        ngrams = build(corpus, T, NgramOptions(tokens=tokens, held_out=4))
        assert pairs_of(ngrams) == dict(Naive(corpus, windows, OPTIONS.seed).pairs)

    def test_an_epoch_is_counted_once(self) -> None:
        corpus = MarkovCorpus(windows_per_epoch=7)
        assert build(corpus, T, OPTIONS).counted == 7 * T


class TestCache:
    """Counted once; a file that is missing, damaged or not writable costs time and nothing else."""

    @pytest.fixture
    def builds(self, monkeypatch: pytest.MonkeyPatch) -> list[NgramOptions]:
        calls: list[NgramOptions] = []

        def counted(corpus, context: int, options: NgramOptions) -> Ngrams:
            calls.append(options)
            return build(corpus, context, options)

        monkeypatch.setattr(module, "build", counted)
        return calls

    @staticmethod
    def files(cache: Path) -> list[Path]:
        return sorted((cache / "ngrams").iterdir())

    def same(self, a: Ngrams, b: Ngrams) -> bool:
        return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("pairs", "counts", "weights"))

    def test_the_second_time_nothing_is_counted(
        self, corpus: MarkovCorpus, ngrams: Ngrams, builds: list[NgramOptions], tmp_path: Path
    ) -> None:
        first, second = (find_or_build(corpus, T, OPTIONS, tmp_path) for _ in range(2))
        assert len(builds) == 1
        assert self.same(first, ngrams)
        assert self.same(second, ngrams)
        assert [path.suffix for path in self.files(tmp_path)] == [".npz"]

    def test_whatever_decides_the_counts_has_a_file_of_its_own(self, tmp_path: Path) -> None:
        corpus = MarkovCorpus()
        longer = MarkovCorpus(windows_per_epoch=30)
        elsewhere, retokenised, more, without_bos = (MarkovCorpus() for _ in range(4))
        elsewhere.fingerprint = "e" * 64
        retokenised.tokenizer_hash = "other"
        more.frequencies = np.concatenate([[0.0, 0.0], np.full(V - 2, 1 / (V - 2))])  # of other training documents
        windows = without_bos.windows
        without_bos.windows = lambda indices, seed: np.maximum(windows(indices, seed), 1)  # type: ignore[method-assign]
        asked = [
            (corpus, T, OPTIONS),
            (corpus, T - 1, OPTIONS),
            (corpus, T, NgramOptions(tokens=61 * T, held_out=40)),
            (corpus, T, NgramOptions(tokens=60 * T, held_out=41)),
            (corpus, T, NgramOptions(tokens=60 * T, held_out=40, seed=1)),
            *((other, T, OPTIONS) for other in (longer, elsewhere, retokenised, more, without_bos)),
        ]
        for arguments in asked:
            find_or_build(*arguments, tmp_path)
        assert len(self.files(tmp_path)) == len(asked)

    @pytest.mark.parametrize("where", [0, 60, 0.3, 0.6, 0.95])
    def test_a_damaged_file_is_built_again(
        self, corpus: MarkovCorpus, ngrams: Ngrams, builds: list[NgramOptions], tmp_path: Path, where: float
    ) -> None:
        find_or_build(corpus, T, OPTIONS, tmp_path)
        (path,) = self.files(tmp_path)
        sound = path.read_bytes()
        place = int(where * len(sound)) if where < 1 else int(where)
        flipped = bytes([*sound[:place], sound[place] ^ 0xFF, *sound[place + 1 :]])
        for damaged in (flipped, sound[:place], b"\x93NUMPY" + sound):
            path.write_bytes(damaged)
            assert self.same(find_or_build(corpus, T, OPTIONS, tmp_path), ngrams)
            assert self.same(find_or_build(corpus, T, OPTIONS, tmp_path), ngrams)
        assert len(builds) <= 4

    @pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
    def test_what_replaced_it_is_said_to_be_damaged(
        self, corpus: MarkovCorpus, ngrams: Ngrams, tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        find_or_build(corpus, T, OPTIONS, tmp_path)
        (path,) = self.files(tmp_path)
        path.write_bytes(damage)
        assert self.same(find_or_build(corpus, T, OPTIONS, tmp_path), ngrams)
        assert f"{path} in a cache is damaged" in caplog.text
        caplog.clear()
        assert self.same(find_or_build(corpus, T, OPTIONS, tmp_path), ngrams)
        assert not caplog.records

    def test_a_file_of_something_else_is_built_again(
        self, corpus: MarkovCorpus, ngrams: Ngrams, tmp_path: Path
    ) -> None:
        find_or_build(corpus, T, OPTIONS, tmp_path)
        (path,) = self.files(tmp_path)
        for wrong in (
            {"pairs": ngrams.pairs[::-1]},
            {"pairs": ngrams.pairs + V**2},
            {"counts": ngrams.counts[1:]},
            {"counts": ngrams.counts.astype(float)},
            {"weights": ngrams.weights + 1},
            {"weights": ngrams.weights * np.nan},
        ):
            parts = {name: getattr(ngrams, name) for name in ("pairs", "counts", "weights")}
            np.savez(path, **(parts | wrong))
            assert self.same(find_or_build(corpus, T, OPTIONS, tmp_path), ngrams)

    def test_a_cache_that_cannot_be_written_costs_time_and_not_the_run(
        self, corpus: MarkovCorpus, ngrams: Ngrams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "ngrams").touch()
        assert self.same(find_or_build(corpus, T, OPTIONS, tmp_path), ngrams)

        def full(*args: object, **kwargs: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "savez", full)
        assert self.same(find_or_build(corpus, T, OPTIONS, tmp_path / "full"), ngrams)
        assert self.files(tmp_path / "full") == []

    def test_many_that_come_at_once_count_once(
        self, corpus: MarkovCorpus, ngrams: Ngrams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counting: list[int] = []

        def slow(corpus: MarkovCorpus, context: int, options: NgramOptions) -> Ngrams:
            counting.append(1)
            time.sleep(0.3)  # long enough for the others to come
            return build(corpus, context, options)

        monkeypatch.setattr(module, "build", slow)
        with ThreadPoolExecutor(4) as pool:
            found = [pool.submit(find_or_build, corpus, T, OPTIONS, tmp_path) for _ in range(4)]
            assert all(self.same(each.result(), ngrams) for each in found)
        assert counting == [1]
        assert [path.suffix for path in self.files(tmp_path)] == [".npz"]

    def test_one_that_was_killed_while_it_counted_is_followed_by_one_that_finishes(
        self, corpus: MarkovCorpus, ngrams: Ngrams, tmp_path: Path
    ) -> None:
        find_or_build(corpus, T, OPTIONS, tmp_path)
        (path,) = self.files(tmp_path)
        path.unlink()
        path.with_suffix(".lock").touch()  # what a killed process leaves: the file, and no lock on it
        assert self.same(find_or_build(corpus, T, OPTIONS, tmp_path), ngrams)
        assert self.files(tmp_path) == [path]

    def test_a_file_system_without_locks_costs_time_and_not_the_run(
        self, corpus: MarkovCorpus, ngrams: Ngrams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*arguments: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr("fcntl.flock", refuse)
        assert self.same(find_or_build(corpus, T, OPTIONS, tmp_path), ngrams)
        assert self.same(find_or_build(corpus, T, OPTIONS, tmp_path), ngrams)


def test_counting_needs_no_torch() -> None:
    check = "import sys; import induction_bump.measures.ngrams; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)
