"""Measures split over ranks: the numbers of one process, and an end for all where one fails."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from induction_bump.measures import null as null_module
from induction_bump.measures.ablation import mean_z
from induction_bump.measures.ngrams import build
from induction_bump.measures.null import null99
from induction_bump.measures.options import (
    CausalOptions,
    CopyingProbeOptions,
    HeldOutOptions,
    IclOptions,
    MeasureOptions,
    NgramOptions,
    NullOptions,
    RepeatsProbeOptions,
)
from induction_bump.measures.probes import Probes
from induction_bump.measures.ranks import ALONE, RankFailedError, Ranks
from induction_bump.measures.reading import read
from induction_bump.measures.registry import MEASURES
from induction_bump.measures.statistics import NotFiniteError
from induction_bump.measures.take import take
from induction_bump.model.options import Clamp, ModelOptions
from induction_bump.model.transformer import Transformer
from induction_bump.training.measured_tables import tables_of
from tests.measures.corpus import SmallCorpus
from tests.measures.random_models import random_model
from tests.ranked import Columns, assert_same_tables, in_group, in_processes, in_threads

V, T = 17, 34  # room for blocks of different lengths, 8 … 16
CORPUS = SmallCorpus(V, T)
NGRAMS = build(CORPUS, T, NgramOptions(tokens=60 * T, held_out=8))
EVERY = MEASURES.keys() - {"null99", "group_ablation"}
COUNTS = (2, 4)
CLAMPS = (Clamp(layer=1, head=0, kind="zero"), Clamp(layer=0, head=1, kind="previous", strength=2.0))


def small(sublayers: str, **changes: Any) -> ModelOptions:
    return ModelOptions(**{"sublayers": sublayers, "d_model": 12, "n_heads": 3, "d_head": 6, "d_mlp": 20, **changes})


MODELS = {
    "zero-layer": small(""),
    "feed-forward-only": small("ff"),
    "two-layer": small("ss"),
    "smeared-mlp": small("sfs", smeared_keys=True, biases=True, norm="rmsnorm"),
    "clamped": small("sss", positions="shortformer", clamps=CLAMPS),
}
SIZES = {"fewer-than-ranks": (3, 2, 2, 3), "odd": (97, 13, 7, 31)}
"""Of the probes: held-out windows, repeats, sequences for copying; and windows for ablations and paths."""
CASES = [(model, sizes) for model in MODELS for sizes in SIZES]


def options_of(sizes: tuple[int, int, int, int]) -> MeasureOptions:
    held_out, repeats, copying, causal = sizes
    return MeasureOptions(
        icl=IclOptions(early=2, late=T, window=5),
        held_out=HeldOutOptions(examples=held_out),
        repeats=RepeatsProbeOptions(sequences=repeats, quantiles=(0.0, 1.0), block=16),
        copying=CopyingProbeOptions(sequences=copying, tokens=6),
        causal=CausalOptions(examples=causal, path_examples=causal),
        null=NullOptions(initialisations=10, examples=2),
    )


def model_of(name: str) -> Transformer:
    return random_model(MODELS[name], vocab_size=V, context=T)


def probes_of(sizes: str) -> tuple[Probes, MeasureOptions]:
    options = options_of(SIZES[sizes])
    return Probes.draw(CORPUS, T, options), options


def measured(model: str, sizes: str, ranks: Ranks) -> Columns:
    """Every table of a snapshot, as columns."""
    probes, options = probes_of(sizes)
    found = take(model_of(model), probes, options, EVERY, NGRAMS, ranks)
    return {name: table.to_pydict() for name, table in tables_of(found, "run", 0, 0).items()}


def null_of(cache: Path, ranks: Ranks) -> dict[str, float]:
    probes, options = probes_of("odd")
    return null99(MODELS["two-layer"], V, T, probes, options.null, cache, "cpu", ranks)


def one_window(ranks: Ranks) -> list[np.ndarray]:
    """What a single example gives, of which all ranks but one have nothing."""
    model, tokens = model_of("two-layer"), probes_of("odd")[0].held_out.tokens[:1]
    with ranks.failing_together():
        read_ = read(model, tokens, probes_of("odd")[0].held_out.lookup, ngrams=NGRAMS, ranks=ranks)
        means = mean_z(model, tokens, ranks=ranks)
    return [read_.losses, read_.bigram_kl, *read_.scores.values(), *(z.numpy() for z in means.values())]


def seconds(work: Callable[[Ranks], Any], ranks: Ranks) -> tuple[Exception | None, float]:
    """How `work` ended on this rank, and after how long."""
    began = time.monotonic()
    try:
        work(ranks)
    except Exception as error:
        return error, time.monotonic() - began
    return None, time.monotonic() - began


FAILURES: dict[str, tuple[str, Exception, int]] = {
    "in-a-share": ("reading._read", NotFiniteError("the model's losses are not finite"), 1),
    "out-of-memory": ("causal.ablate", MemoryError("16 GiB more"), 1),
    "what-the-first-does-alone": ("take._of_weights", ValueError("no such weights"), 0),
    "between-exchanges": ("take._against_ngrams", ZeroDivisionError("division by zero"), 1),
    "after-the-last-exchange": ("paths.clustered_mean", OSError(5, "Input/output error"), 1),
}
"""Where it happens, what, and on which rank."""


def failing(name: str, ranks: Ranks) -> None:
    """Take every measure where one rank breaks at a place of its own."""
    where, error, rank = FAILURES[name]

    def broken(*arguments: Any, **options: Any) -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        if ranks.rank == rank:
            patch.setattr(f"induction_bump.measures.{where}", broken)
        measured("two-layer", "odd", ranks)


def on_each(rank: int, directory: Path) -> dict[Any, Any]:
    """In one of four processes: everything that the tests below look at, by number of ranks and case."""
    found: dict[Any, Any] = {}

    def keep(count: int, name: Any, work: Callable[[Ranks], Any]) -> None:
        if rank < count:
            store = directory / f"{count}-{len([key for key in found if key[0] == count])}"
            found[count, name] = in_group(rank, count, store, work)

    for count in COUNTS:
        for case in CASES:
            keep(count, case, partial(measured, *case))
        keep(count, "one window", one_window)
        keep(count, "null", partial(null_of, directory / f"nulls{count}-{rank}"))
        for name in FAILURES:
            keep(count, name, partial(seconds, partial(failing, name)))
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    """By rank: what `on_each` returned."""
    return in_processes(max(COUNTS), on_each, tmp_path_factory.mktemp("ranks"))


def each(found: list[dict[Any, Any]], count: int, name: Any) -> list[Any]:
    results = [found[rank][count, name] for rank in range(count)]
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


pytestmark = pytest.mark.processes


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_every_table_of_a_snapshot_is_that_of_one_process(
    found: list[dict[Any, Any]], count: int, case: tuple[str, str]
) -> None:
    expected = measured(*case, ALONE)
    assert {"scalars", "positions", "tokens", "examples"} < expected.keys() or not MODELS[case[0]].n_attention
    first, *others = each(found, count, case)
    assert all(repr(other) == repr(first) for other in others)  # to the last bit, and in the same order
    assert_same_tables(first, expected, 1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_the_tables_that_are_compared_are_all_there_are(model: str) -> None:
    options = MODELS[model]
    tables = {"scalars", "positions", "tokens", "examples", "paths"}
    tables |= {"heads", "ablations", "ablated_tokens"} if options.n_attention else set()
    tables |= {"head_pairs"} if options.n_attention > 1 else set()
    found = measured(model, "odd", ALONE)
    assert found.keys() == tables
    if options.n_attention:
        assert set(found["ablations"]["kind"]) == {"zero", "mean", "pattern_preserving"}


@pytest.mark.parametrize("count", COUNTS)
def test_a_single_example_is_read_by_one_rank_and_known_to_all(found: list[dict[Any, Any]], count: int) -> None:
    expected = one_window(ALONE)
    for result in each(found, count, "one window"):
        for array, other in zip(result, expected, strict=True):
            assert array.shape == other.shape
            np.testing.assert_allclose(array, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", COUNTS)
def test_the_null_is_that_of_one_process_and_kept_by_the_first_rank_alone(
    found: list[dict[Any, Any]], count: int, tmp_path: Path
) -> None:
    expected = null_of(tmp_path, ALONE)
    assert each(found, count, "null") == [expected] * count  # initialisations are not cut, and so nothing is rounded


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", FAILURES)
def test_where_one_rank_fails_all_do_at_once(found: list[dict[Any, Any]], count: int, name: str) -> None:
    _, error, failed = FAILURES[name]
    for rank, (raised, took) in enumerate(each(found, count, name)):
        assert took < 10
        if rank == failed:
            assert type(raised) is type(error)
            assert str(raised) == str(error)
        elif isinstance(error, NotFiniteError):
            assert type(raised) is NotFiniteError
            assert str(raised) == str(error)
        else:
            assert type(raised) is RankFailedError
            assert str(raised) == f"rank {failed} failed: {type(error).__name__}: {error}"


class TestNullCache:
    """Ranks of several machines do not see the same files, and one may find the null that another does not."""

    @pytest.mark.parametrize("knowing", [0, 1, 2])
    def test_what_the_first_rank_finds_is_what_all_take(
        self, tmp_path: Path, knowing: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expected = null_of(tmp_path / str(knowing), ALONE)
        computed: list[int] = []
        original = null_module._maxima

        def counted(*arguments: Any) -> list[float]:
            computed.append(arguments[5])
            return original(*arguments)

        monkeypatch.setattr(null_module, "_maxima", counted)
        assert in_threads(3, lambda ranks: null_of(tmp_path / str(ranks.rank), ranks)) == [expected] * 3
        assert sorted(computed) == ([] if knowing == 0 else list(range(10)))  # each initialisation once
        assert {path.name for path in tmp_path.iterdir()} == {"0", str(knowing)}

    def test_a_file_that_the_first_rank_cannot_read_ends_all(self, tmp_path: Path) -> None:
        null_of(tmp_path, ALONE)
        (path,) = (tmp_path / "nulls").iterdir()
        path.unlink()
        path.mkdir()
        first, *others = in_threads(3, lambda ranks: null_of(tmp_path, ranks))
        assert isinstance(first, IsADirectoryError)
        assert [type(other) for other in others] == [RankFailedError] * 2


class TestRanks:
    """The object itself."""

    @given(st.integers(0, 200), st.integers(1, 20))
    def test_shares_are_all_of_it_in_order_and_differ_by_one_at_most(self, examples: int, count: int) -> None:
        shares = [range(examples)[Ranks(rank, count, list).share(examples)] for rank in range(count)]
        assert [i for share in shares for i in share] == list(range(examples))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1

    @given(st.integers(0, 12), st.integers(1, 5))
    def test_the_whole_is_in_order_and_the_total_counts_each_example_once(self, examples: int, count: int) -> None:
        values = np.random.default_rng(examples).integers(0, 1000, (examples, 3))

        def work(ranks: Ranks) -> Any:
            with ranks.failing_together():
                whole = ranks.whole(examples, lambda here: {"x": values[here], "y": values[here, 0]})
                total = ranks.total(examples, lambda here: {"sum": values[here].sum(0)})
            return whole, total

        for whole, total in in_threads(count, work):
            if not examples:
                assert (whole, total) == ({}, {})
                continue
            assert whole["x"].tolist() == values.tolist()
            assert whole["y"].tolist() == values[:, 0].tolist()
            assert total["sum"].tolist() == values.sum(0).tolist()

    def test_only_the_first_makes_what_all_of_them_get(self) -> None:
        made: list[int] = []

        def work(ranks: Ranks) -> object:
            with ranks.failing_together():
                return ranks.from_first(lambda: made.append(ranks.rank) or ["it"])

        assert in_threads(4, work) == [["it"]] * 4
        assert made == [0]

    @given(st.sets(st.integers(0, 3), min_size=1), st.lists(st.integers(0, 4), min_size=4, max_size=4))
    def test_whoever_fails_and_wherever_none_waits(self, ranks_that_fail: set[int], places: list[int]) -> None:
        def work(ranks: Ranks) -> None:
            with ranks.failing_together():
                for place in range(5):
                    if ranks.rank in ranks_that_fail and places[ranks.rank] == place:
                        raise KeyError(place)
                    if place < 4:
                        ranks.whole(3, lambda here: {"x": np.arange(3)[here]})

        # those that reach their place before another's failure ends it raise their own error
        soonest = min(places[rank] for rank in ranks_that_fail)
        own = {rank for rank in ranks_that_fail if places[rank] == soonest}
        for rank, error in enumerate(in_threads(4, work)):
            assert isinstance(error, KeyError if rank in own else RankFailedError)
            if rank not in own:
                assert str(error) == f"rank {min(own)} failed: KeyError: {soonest}"

    def test_a_rank_that_is_lost_is_an_error_of_the_others(self) -> None:
        def all_gather(value: Any) -> list[Any]:
            raise RuntimeError("Connection closed by peer")

        ranks = Ranks(0, 2, all_gather)
        with (
            pytest.raises(RankFailedError, match="another rank was lost: Connection closed by peer"),
            ranks.failing_together(),
        ):
            ranks.from_first(lambda: 1)
        with pytest.raises(KeyError, match="its own"), ranks.failing_together():
            raise KeyError("its own")

    def test_a_process_without_a_group_is_alone(self) -> None:
        assert Ranks.of_group() is ALONE
