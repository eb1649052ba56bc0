"""A training that is stopped and taken up again is the uninterrupted one, bit for bit."""

import errno
import logging
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from induction_bump.data.corpus import prepare
from induction_bump.records.checkpoints import checkpoints, newest_intact
from induction_bump.records.directory import RunDirectory
from induction_bump.records.schema import RecordsError
from induction_bump.training import checkpoints as writing
from induction_bump.training.errors import LossNotFiniteError
from induction_bump.training.options import RunConfig
from induction_bump.training.progress import Progress
from induction_bump.training.train import Cluster, train
from tests.ranked import as_torchrun_does, free_port, in_processes
from tests.records.same import assert_same_records
from tests.training.runs import begin, config_of

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "one", "dog", "run", "up", "to", "it"]

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "plain": {},
    "accumulating": {"devices": {"accelerator": "cpu", "sequences_per_device": 3}},
    "loader-workers": {"devices": {"accelerator": "cpu", "loader_workers": 2}},
    "bf16": {"training": {"precision": "bf16"}},
    "mlp-smeared-decaying": {
        "model": {"sublayers": "sf", "smeared_keys": True},
        "training": {"decay": "cosine", "weight_decay": 0.1},
    },
    "expensive": {"snapshots": {"measures": {"at": ["3step"]}, "expensive": {"at": ["3step"]}}},
    "weights-elsewhere": {"snapshots": {"measures": {"at": ["3step"]}, "weights": {"at": ["5step"]}}},
    "compiled": {"training": {"compile": True}},
}
SLOW = {"compiled"}


STOPS = {"plain": [(1,), (3,), (4,), (2, 5), (1, 2, 3, 7)]}


def config(cache: Path, variant: str, **changes: dict[str, Any]) -> RunConfig:
    return config_of(cache, **{**VARIANTS[variant], **changes})


def train_to(run: RunDirectory, config: RunConfig, *stops: int) -> None:
    """Train to the end, asked to stop after some steps, each time in a trainer of its own."""
    for stop in (*stops, None):
        take_up(run, config, stop)


def take_up(run: RunDirectory, config: RunConfig, stop: int | None = None, cluster: Cluster = "none") -> None:
    """As a launcher does it: bring the records back to the newest checkpoint, and go on from there to step `stop`."""
    found = newest_intact(run.path)
    if found:
        run.rewind(found.step)
    asked = iter(range((found.step if found else 0) + 1, 1_000_000))
    train(config, run, lambda: stop is not None and next(asked) >= stop, cluster)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RunDirectory]:
    """Gives the run of a variant."""
    directory = tmp_path_factory.mktemp("uninterrupted")

    @cache
    def of(variant: str) -> RunDirectory:
        wanted = config(directory / "cache", variant)
        run = begin(directory / variant, wanted)
        train_to(run, wanted)
        return run

    return of


Runs = Callable[[str], RunDirectory]


def again(uninterrupted: Runs, directory: Path, variant: str = "plain", **changes: dict[str, Any]) -> Any:
    """The same run once more, not trained yet: its directory, its config, and what should come out."""
    expected = uninterrupted(variant)
    wanted = config(expected.path.parent / "cache", variant, **changes)
    return begin(directory / "run", wanted), wanted, expected


@pytest.mark.parametrize(
    ("variant", "stops"),
    [
        pytest.param(variant, stops, marks=[pytest.mark.slow] if variant in SLOW else [])
        for variant in VARIANTS
        for stops in STOPS.get(variant, [(2, 5)])
    ],
    ids=str,
)
def test_records_are_those_of_one_uninterrupted_run(
    uninterrupted: Runs, tmp_path: Path, variant: str, stops: Sequence[int]
) -> None:
    run, wanted, expected = again(uninterrupted, tmp_path, variant)
    train_to(run, wanted, *stops)
    assert_same_records(run, expected)


def test_a_stop_leaves_a_checkpoint_of_its_step(uninterrupted: Runs, tmp_path: Path) -> None:
    run, wanted, _ = again(uninterrupted, tmp_path)
    take_up(run, wanted, 5)
    assert [each.step for each in checkpoints(run.path)] == [3, 5]
    assert run.table("training").column("step").to_pylist() == [1, 2, 3, 4, 5]
    assert not list((run.path / "tables").glob("*"))


class BrokenError(Exception):
    """What stands for a process that ends anywhere."""


@pytest.mark.parametrize("step", range(1, 9))
def test_what_came_after_the_last_checkpoint_is_done_again(
    uninterrupted: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    run, wanted, expected = again(uninterrupted, tmp_path)

    def broken(self: Any, trainer: Any, *_: Any) -> None:
        self.flush(trainer)
        if trainer.global_step == step:
            raise BrokenError

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "on_train_batch_end", lambda self, trainer, *_: broken(self.rows, trainer))
        with pytest.raises(BrokenError):
            take_up(run, wanted)
    assert run.table("training").column("step").to_pylist() == list(range(1, step + 1))
    assert checkpoints(run.path)[-1].step == max(s for s in (0, 3, 8) if s <= step)
    take_up(run, wanted)
    assert_same_records(run, expected)


@pytest.mark.parametrize("left", [0, 1, 3])
def test_a_run_whose_tables_were_not_all_gathered_is_completed(uninterrupted: Runs, tmp_path: Path, left: int) -> None:
    run, wanted, expected = again(uninterrupted, tmp_path)
    take_up(run, wanted)
    for table in sorted((run.path / "tables").iterdir())[left:]:
        table.unlink()
    take_up(run, wanted)
    assert_same_records(run, expected)


DAMAGE = {
    "flipped-bit": lambda where: _flip(where / "state.pt"),
    "truncated": lambda where: (where / "state.pt").write_bytes((where / "state.pt").read_bytes()[:-100]),
    "no-state": lambda where: (where / "state.pt").unlink(),
    "no-checksum": lambda where: (where / "sha256").unlink(),
    "empty-checksum": lambda where: (where / "sha256").write_text("", encoding="ascii"),
}


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    uninterrupted: Runs, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    run, wanted, expected = again(uninterrupted, tmp_path)
    take_up(run, wanted, 5)
    DAMAGE[damage](run.path / "checkpoints/00000005")
    take_up(run, wanted)
    [warning] = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "checkpoints/00000005 is damaged (" in warning
    assert_same_records(run, expected)


def test_where_all_are_damaged_the_run_starts_again(uninterrupted: Runs, tmp_path: Path) -> None:
    run, wanted, expected = again(uninterrupted, tmp_path)
    take_up(run, wanted, 5)
    for each in checkpoints(run.path):
        _flip(each.state)
    assert newest_intact(run.path) is None
    run.clear()
    take_up(run, wanted)
    assert_same_records(run, expected)


def test_rows_measured_in_between_stay_up_to_the_checkpoint(uninterrupted: Runs, tmp_path: Path) -> None:
    run, wanted, _ = again(uninterrupted, tmp_path)
    take_up(run, wanted, 5)
    rows = run.table("heads", [0, 3])
    run.append_rows("heads", "later-00000", rows)
    for step in (5, 3):
        run.rewind(step)
        assert sorted(set(run.table("heads").column("step").to_pylist())) == [0, 3]
    run.rewind(0)
    assert run.table("heads").num_rows == rows.num_rows  # of step 0, twice
    assert set(run.table("heads").column("step").to_pylist()) == {0}


class TestWhen:
    """Checkpoints besides those of snapshots and stops."""

    def steps(self, run: RunDirectory, monkeypatch: pytest.MonkeyPatch, config: RunConfig) -> list[int]:
        written: list[int] = []
        original = writing.write_checkpoint
        monkeypatch.setattr(writing, "write_checkpoint", lambda r, s, w: (written.append(s), original(r, s, w))[1])
        take_up(run, config)
        assert [each.step for each in checkpoints(run.path)] == written[-2:]
        return written

    def test_by_steps(self, uninterrupted: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run, wanted, expected = again(uninterrupted, tmp_path, checkpoints={"every": "2step"})
        assert self.steps(run, monkeypatch, wanted) == [0, 2, 3, 4, 6, 8]
        assert_same_records(run, expected)

    def test_by_time(self, uninterrupted: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run, wanted, _ = again(uninterrupted, tmp_path, checkpoints={"every_seconds": 1e-9})
        monkeypatch.setattr(writing, "MOST_OF_THE_TIME", 1e12)
        assert self.steps(run, monkeypatch, wanted) == list(range(9))

    def test_a_slow_disk_gets_fewer(self, uninterrupted: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run, wanted, _ = again(uninterrupted, tmp_path, checkpoints={"every_seconds": 1e-9})
        monkeypatch.setattr(writing, "MOST_OF_THE_TIME", 1e-9)
        assert self.steps(run, monkeypatch, wanted) == [0, 3, 8]

    def test_never_by_time(self, uninterrupted: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run, wanted, _ = again(uninterrupted, tmp_path, checkpoints={"every_seconds": None})
        assert self.steps(run, monkeypatch, wanted) == [0, 3, 8]

    @pytest.mark.parametrize("every", ["0step", "9step", "x"])
    def test_what_cannot_be_is_refused(self, tmp_path: Path, every: str) -> None:
        with pytest.raises(ValueError, match="every"):
            config_of(tmp_path, checkpoints={"every": every})


def test_time_is_summed_over_all_parts(uninterrupted: Runs, tmp_path: Path) -> None:
    run, wanted, _ = again(uninterrupted, tmp_path)
    take_up(run, wanted, 5)
    first = run.info.seconds
    assert first.keys() == {"training", "snapshots", "writing"}
    take_up(run, wanted)
    assert all(run.info.seconds[name] > first[name] for name in first)


def test_another_models_state_is_refused(uninterrupted: Runs, tmp_path: Path) -> None:
    run, wanted, _ = again(uninterrupted, tmp_path)
    take_up(run, wanted, 5)
    other = config(Path(wanted.paths.cache), "plain", model={"sublayers": "ss", "d_model": 32, "n_heads": 2})
    with pytest.raises(RecordsError, match=r"checkpoints: the checkpoint after step 5 is another model's"):
        take_up(run, other)


@pytest.mark.parametrize("content", [b"", b"nothing of the kind"])
def test_what_is_no_checkpoint_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(RecordsError, match=r"state\.pt: .+") as caught:
        writing.read_state(tmp_path / "state.pt")
    assert "\n" not in str(caught.value)


def test_a_disk_that_fills_in_the_middle_of_a_state_is_named_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, written = writing._Hashed.write, [0]

    class Full:
        """A file on a disk with room for 50 kB."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, data: Any) -> int:
            written[0] += len(data)
            if written[0] > 50_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    def write(self: Any, data: Any) -> int:
        if not isinstance(self._file, Full):
            self._file = Full(self._file)
        return original(self, data)

    monkeypatch.setattr(writing._Hashed, "write", write)
    with pytest.raises(OSError, match="No space left") as caught:
        writing._save({"x": torch.zeros(100_000), "y": torch.zeros(100_000)}, tmp_path / "state.pt")
    assert caught.value.errno == errno.ENOSPC


def test_a_checkpoint_that_cannot_be_read_now_is_not_taken_for_a_damaged_one(
    uninterrupted: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, wanted, _ = again(uninterrupted, tmp_path)
    take_up(run, wanted, 5)

    def broken(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("hashlib.file_digest", broken)
    with pytest.raises(OSError, match="Input/output error"):
        newest_intact(run.path)


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path) -> None:
    torch.save({"format": 99}, tmp_path / "state.pt")
    with pytest.raises(RecordsError, match="not a checkpoint of this version"):
        writing.read_state(tmp_path / "state.pt")


def test_a_broken_loss_is_met_again_at_the_same_step(
    uninterrupted: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, wanted, expected = again(uninterrupted, tmp_path)
    with monkeypatch.context() as patch:
        from induction_bump.training import module

        original, calls = module.mean_loss, iter(range(1, 1000))
        patch.setattr(module, "mean_loss", lambda *a: original(*a) * (float("nan") if next(calls) == 5 else 1.0))
        with pytest.raises(LossNotFiniteError, match="step 5"):
            take_up(run, wanted)
    take_up(run, wanted)  # the cause was mended
    assert_same_records(run, expected)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty documents."""
    directory = tmp_path_factory.mktemp("text")
    random = np.random.default_rng(0)
    for number in range(40):
        words = " ".join(random.choice(WORDS, size=80))
        (directory / f"{number}.txt").write_text(words, encoding="utf-8")
    return directory


class TestEpochs:
    """A text with windows for less than four steps."""

    def config(self, directory: Path) -> RunConfig:
        return config_of(
            directory.parent / "cache",
            data={
                "context": 32,
                "corpus": {"name": "files", "paths": [str(directory)]},
                "tokenizer": {"vocab_size": 270},
                "held_out_share": 0.3,
            },
            training={"length": "12step", "batch_sequences": 56, "learning_rate": 0.01},
            snapshots={"measures": {"at": ["4step"]}},
            measures={"held_out": {"examples": 8}},
        )

    @pytest.mark.parametrize("stops", [(1, 2), (2, 5, 6, 11)], ids=["twice in one", "in several"])
    def test_stops_within_and_between_them_change_nothing(self, text: Path, tmp_path: Path, stops: Any) -> None:
        wanted = self.config(text)
        corpus = prepare(wanted.data, Path(wanted.paths.cache))
        assert corpus.windows_per_epoch
        assert 2 * 56 < corpus.windows_per_epoch < 4 * 56
        run, expected = begin(tmp_path / "run", wanted), begin(tmp_path / "expected", wanted)
        train_to(expected, wanted)
        train_to(run, wanted, *stops)
        assert_same_records(run, expected)


STEPS = 60


def of_devices(cache: Path, count: int) -> RunConfig:
    return config_of(
        cache,
        training={"length": f"{STEPS}step", "batch_sequences": 12, "learning_rate": 0.003},
        devices={"accelerator": "cpu", "count": count},
    )


def in_ranks(rank: int, directory: Path, parts: list[tuple[str, int, bool]], count: int = 2) -> None:
    """In one of `count` processes: parts of runs, each with a port; some are asked to stop, which takes ten steps."""
    import torch.distributed as dist

    for name, port, stops in parts:
        run = RunDirectory(directory / name)
        as_torchrun_does(rank, count, port)
        if rank == 0 and (found := newest_intact(run.path)):
            run.rewind(found.step)
        asked = stops and rank == 1  # one is, and all stop
        train(of_devices(directory / "cache", count), run, lambda asked=asked: asked, "torchrun")
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`two`: uninterrupted; `parts`: stopped twice; `one-two`: ten steps on one process, the others on two."""
    directory = tmp_path_factory.mktemp("trained")
    one = of_devices(directory / "cache", 1)
    for name in ("one", "two", "parts", "one-two", "two-one"):
        begin(directory / name, one)
    take_up(RunDirectory(directory / "one"), one)
    take_up(RunDirectory(directory / "one-two"), one, 10)
    stops = {"two": [False], "parts": [True, True, False], "one-two": [False], "two-one": [True]}
    in_processes(2, in_ranks, directory, [(name, free_port(), s) for name, some in stops.items() for s in some])
    assert checkpoints(directory / "two-one")[-1].step == 10
    take_up(RunDirectory(directory / "two-one"), one)
    return directory


@pytest.mark.processes
class TestProcesses:
    """Several ranks, and another number of them."""

    def test_stops_of_two_processes_change_nothing(self, trained: Path) -> None:
        assert_same_records(RunDirectory(trained / "parts"), RunDirectory(trained / "two"))

    @pytest.mark.parametrize("name", ["one-two", "two-one"])
    def test_on_another_number_of_devices_the_losses_go_on(self, trained: Path, name: str) -> None:
        found, expected = (RunDirectory(trained / n).table("training").column("loss").to_numpy() for n in (name, "one"))
        assert len(found) == STEPS
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        assert (found[:10] == expected[:10]).all() == (name == "one-two")
        assert (found[10:] != expected[10:]).any()  # sums are taken in another order

    @pytest.mark.slow
    def test_four_go_on_where_two_stopped_and_stop_themselves(self, trained: Path) -> None:
        begin(trained / "two-four", of_devices(trained / "cache", 1))
        in_processes(2, in_ranks, trained, [("two-four", free_port(), True)])
        in_processes(4, in_ranks, trained, [("two-four", free_port(), stops) for stops in (True, False)], 4)
        assert [c.step for c in checkpoints(trained / "two-four")][-1] == STEPS
        found, expected = (RunDirectory(trained / n).table("training") for n in ("two-four", "one"))
        assert found.column("step").to_pylist() == list(range(1, STEPS + 1))
        np.testing.assert_allclose(found.column("loss"), expected.column("loss"), rtol=0, atol=1e-5)
