"""One training on one, two and four processes: the same losses, the same tables, one end."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from induction_bump.measures import reading
from induction_bump.measures.ranks import RankFailedError
from induction_bump.measures.statistics import NotFiniteError
from induction_bump.records.directory import RunDirectory
from induction_bump.training.errors import LossNotFiniteError
from induction_bump.training.module import LanguageModel
from induction_bump.training.options import RunConfig
from induction_bump.training.train import train
from tests.ranked import Columns, as_torchrun_does, assert_same_tables, free_port, in_processes
from tests.training.runs import begin, config_of

pytestmark = pytest.mark.processes

STEPS, MIDDLE = 50, 20
LAYOUTS: dict[str, tuple[int, int | None]] = {
    "one": (1, None),
    "one-accumulating": (1, 5),
    "two": (2, None),
    "two-accumulating": (2, 2),
    "four": (4, None),
}
"""Processes, and most sequences that one takes at once."""
FAILURES: dict[str, Exception] = {"not-finite": NotFiniteError("the losses are odd"), "other": MemoryError("too much")}


def config(directory: Path, layout: str, rank: int = 0) -> RunConfig:
    count, most = LAYOUTS[layout]
    # ranks of "four" share no cache, and only the first one's holds what earlier layouts have left
    cache = directory / ("cache" if layout != "four" or rank == 0 else f"cache{rank}")
    return config_of(
        cache,
        training={"length": f"{STEPS}step", "batch_sequences": 12, "learning_rate": 0.003},
        snapshots={"measures": {"at": [f"{MIDDLE}step"]}, "expensive": {"at": [f"{MIDDLE}step"]}},
        measures={
            "held_out": {"examples": 13},
            "repeats": {"sequences": 5, "quantiles": [0.0, 1.0]},
            "ngrams": {"tokens": 2000, "held_out": 8},
            "causal": {"examples": 7, "path_examples": 3},
        },
        devices={"accelerator": "cpu", "count": count, "sequences_per_device": most},
    )


def in_ranks(rank: int, directory: Path, ports: dict[str, int]) -> dict[str, Any]:
    """In one of four processes: train every layout that has this rank; by layout, what the training raised."""
    import torch.distributed as dist

    ended: dict[str, Any] = {}
    for name, port in ports.items():
        layout = name.split("/")[0]
        count = LAYOUTS[layout][0]
        if rank >= count:
            continue
        as_torchrun_does(rank, count, port)
        with pytest.MonkeyPatch.context() as patch:
            if name == "two/norm" and rank == 1:
                patch.setattr(LanguageModel, "configure_gradient_clipping", with_a_broken_norm)
            elif "/" in name and rank == 1:
                patch.setattr(reading, "_read", breaking_after_step_0(FAILURES[name.split("/")[1]]))
            try:
                train(config(directory, layout, rank), RunDirectory(directory / name), cluster="torchrun")
                ended[name] = None
            except Exception as error:
                ended[name] = error
        dist.destroy_process_group()
    return ended


def breaking_after_step_0(error: Exception) -> Callable[..., Any]:
    original, calls = reading._read, iter(range(1_000_000))
    of_step_0 = 3  # text, repeats and shuffled repeats; the null is in the cache by now

    def broken(*arguments: Any) -> Any:
        if next(calls) >= of_step_0:
            raise error
        return original(*arguments)

    return broken


def with_a_broken_norm(self: LanguageModel, *arguments: Any, **options: Any) -> None:
    """As of a device that computes wrongly: gradients themselves are the same on all ranks."""
    nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
    at = self.trainer.global_step == MIDDLE - 1
    self.gradient_norm = torch.tensor(math.nan if at else 1.0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Where the runs are, and how each ended on each rank of four."""
    directory = tmp_path_factory.mktemp("trained")
    names = [*LAYOUTS, *(f"two/{failure}" for failure in FAILURES), "two/norm"]
    for name in names:
        layout = name.split("/")[0]
        run = begin(directory / name, config(directory, layout))
        if LAYOUTS[layout][0] == 1:
            train(config(directory, layout), run)
    ports = {name: free_port() for name in names if LAYOUTS[name.split("/")[0]][0] > 1}
    return directory, in_processes(4, in_ranks, directory, ports)


Trained = tuple[Path, list[dict[str, Any]]]


def tables(run: RunDirectory, step: int) -> Columns:
    (snapshot,) = [s for s in run.snapshots() if s.step == step]
    names = sorted(path.stem for path in snapshot.path.glob("*.parquet"))
    found = {name: run.table(name) for name in names}
    return {name: rows.filter(rows.column("step").to_numpy() == step).to_pydict() for name, rows in found.items()}


@pytest.mark.parametrize("layout", list(LAYOUTS)[1:])
def test_losses_and_tables_are_those_of_one_process(trained: Trained, layout: str) -> None:
    directory, ended = trained
    one, run = RunDirectory(directory / "one"), RunDirectory(directory / layout)
    count = LAYOUTS[layout][0]
    if count > 1:
        assert [ended[rank][layout] for rank in range(count)] == [None] * count
    expected, losses = (r.table("training").column("loss").to_numpy() for r in (one, run))
    assert len(losses) == STEPS
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-5)
    assert expected[-1] < expected[0] - 0.2  # it learns, so that what is compared has changed
    assert [s.step for s in run.snapshots()] == [0, MIDDLE, STEPS]
    assert_same_tables(tables(run, 0), tables(one, 0), 1e-5)
    # the weights are no longer the same to the last bit
    assert_same_tables(tables(run, STEPS), tables(one, STEPS), 1e-4)


def test_all_tables_are_compared(trained: Trained) -> None:
    directory, _ = trained
    first, middle = (tables(RunDirectory(directory / "four"), step) for step in (0, MIDDLE))
    cheap = {"scalars", "positions", "tokens", "examples", "heads"}
    assert first.keys() == middle.keys() == cheap | {"head_pairs", "ablations", "ablated_tokens", "paths"}
    assert "null99/previous_token" in first["scalars"]["name"]
    assert "bigram_kl" in first["scalars"]["name"]


@pytest.mark.parametrize("failure", FAILURES)
def test_an_error_of_one_rank_ends_all_of_them(trained: Trained, failure: str) -> None:
    directory, ended = trained
    first, second = (ended[rank][f"two/{failure}"] for rank in (0, 1))
    if failure == "not-finite":
        for error in (first, second):
            assert type(error) is LossNotFiniteError
            assert str(error) == f"at step {MIDDLE} the losses are odd; everything before it is kept"
    else:
        assert type(second) is MemoryError
        assert type(first) is RankFailedError
        assert str(first) == "rank 1 failed: MemoryError: too much"
    run = RunDirectory(directory / f"two/{failure}")
    assert [s.step for s in run.snapshots()] == [0]
    assert run.table("training").column("step").to_pylist() == list(range(1, MIDDLE + 1))


def test_a_gradient_that_broke_on_one_rank_ends_all_of_them_before_anything_of_the_step_is_written(
    trained: Trained,
) -> None:
    directory, ended = trained
    for rank in (0, 1):
        error = ended[rank]["two/norm"]
        assert type(error) is LossNotFiniteError
        assert str(error) == f"the gradient norm became nan at step {MIDDLE}; everything before it is kept"
    run = RunDirectory(directory / "two/norm")
    assert [s.step for s in run.snapshots()] == [0]
    assert run.table("training").column("step").to_pylist() == list(range(1, MIDDLE))
