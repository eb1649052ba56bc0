"""A step takes the same sequences whatever the number of ranks and passes."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from induction_bump.data.corpus import prepare
from induction_bump.data.dataset import StepBatchSampler, WindowDataset
from induction_bump.data.options import DataOptions, RepeatsOptions


@pytest.mark.parametrize(("world", "passes"), list(itertools.product((1, 2, 3, 6), (1, 2, 4))))
def test_a_step_takes_its_own_sequences_over_all_ranks_and_passes(world: int, passes: int):
    samplers = [StepBatchSampler(3, 6, 24, passes=passes, rank=rank, world=world) for rank in range(world)]
    lists = [list(sampler) for sampler in samplers]
    for rank_lists, sampler in zip(lists, samplers, strict=True):
        assert len(rank_lists) == len(sampler) == 3 * passes
        assert {len(indices) for indices in rank_lists} == {24 // (passes * world)}
    for step in range(3):
        of_step = [rank_lists[step * passes : (step + 1) * passes] for rank_lists in lists]
        taken = sorted(index for rank in of_step for one_pass in rank for index in one_pass)
        assert taken == list(range((3 + step) * 24, (4 + step) * 24))


def test_starting_later_continues_where_an_earlier_start_would_be():
    assert list(StepBatchSampler(5, 9, 4)) == list(StepBatchSampler(0, 9, 4))[5:]


def test_an_impossible_split_is_our_own_mistake():
    with pytest.raises(AssertionError):
        StepBatchSampler(0, 1, 10, passes=2, world=3)


@pytest.fixture
def dataset(tmp_path: Path) -> WindowDataset:
    return WindowDataset(prepare(DataOptions(corpus=RepeatsOptions(), context=64), tmp_path), seed=3, sequences=100)


def test_one_by_one_and_all_at_once_give_the_same_windows(dataset: WindowDataset):
    batch = dataset.__getitems__([5, 99, 0])
    assert batch.shape == (3, 65)
    assert batch.dtype == np.int64
    assert np.array_equal(batch, np.stack([dataset[5], dataset[99], dataset[0]]))


def test_a_dataset_ends_where_it_was_told_to(dataset: WindowDataset):
    assert len(dataset) == len(list(dataset)) == 100
    with pytest.raises(IndexError, match="sequence 100 of 100"):
        dataset[100]


def test_a_torch_loader_fetches_whole_batches(dataset: WindowDataset):
    torch = pytest.importorskip("torch")
    sampler = StepBatchSampler(0, 5, 20, passes=2)
    loader = torch.utils.data.DataLoader(dataset, batch_sampler=sampler, collate_fn=torch.from_numpy)
    batches = list(loader)
    assert [tuple(batch.shape) for batch in batches] == [(10, 65)] * 10
    assert np.array_equal(torch.cat(batches).numpy(), dataset.__getitems__(list(range(100))))
