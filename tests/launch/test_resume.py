"""What becomes of the records of a run that goes on, and what is refused to go on."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from induction_bump.config.errors import ConfigError
from induction_bump.launch import cell, facts, resume, stop, worker
from induction_bump.launch.announcement import announcement
from induction_bump.launch.outcome import Outcome
from induction_bump.measures.registry import VERSIONS
from induction_bump.records.checkpoints import checkpoints, write_checkpoint
from induction_bump.records.directory import RunDirectory
from induction_bump.records.schema import RunInfo
from induction_bump.training.options import RunConfig
from tests.launch.conftest import StandInTraining, changed

HASHES = {"corpus": "a" * 64, "held_out": "b" * 64}
OF_TRAINING: dict[str, Any] = {"parameters": 12, "measure_versions": {"loss": 1, "qk_trace": 1}, "vocab_size": 64}


def leaving(*steps: int, checkpoint: int | None = None) -> Callable[[RunDirectory], None]:
    """A training that breaks off with snapshots at some steps and one checkpoint."""

    def train(run: RunDirectory) -> None:
        run.update(**OF_TRAINING)
        for step in steps:
            run.write_snapshot(step, {})
        if checkpoint is not None:
            add_checkpoint(run, checkpoint)
        raise RuntimeError("broken")

    return train


def add_checkpoint(run: RunDirectory, step: int) -> None:
    def write(path: Path) -> str:
        path.write_bytes(b"state")
        return hashlib.sha256(b"state").hexdigest()

    write_checkpoint(run.path, step, write)


def damage(run: RunDirectory, step: int) -> None:
    (run.path / f"checkpoints/{step:08d}/state.pt").write_bytes(b"other")


def work(config: RunConfig) -> tuple[Outcome, RunDirectory]:
    job = cell.plan(config)
    return worker.work(job, None), RunDirectory(job.path)


def steps(run: RunDirectory) -> list[int]:
    return [snapshot.step for snapshot in run.snapshots()]


class TestRecords:
    """As training finds them when it starts."""

    def seen(self, config: RunConfig, training: StandInTraining) -> tuple[RunInfo, list[int], list[int]]:
        found: list[Any] = []
        training.does = lambda run: found.append((run.info, steps(run), [c.step for c in checkpoints(run.path)]))
        work(config)
        return found[0]

    def test_a_run_goes_on_in_its_generation(self, config: RunConfig, training: StandInTraining) -> None:
        training.does = leaving(0, 4, 9, checkpoint=6)
        _, run = work(config)
        before = run.info
        info, snapshots, there = self.seen(config, training)
        assert (snapshots, there) == ([0, 4], [6])
        assert info.generation == 1
        assert info.created_at == before.created_at
        assert info.status == "running"
        assert info.message is None
        assert {name: getattr(info, name) for name in OF_TRAINING} == OF_TRAINING
        [resumed] = info.resumes
        assert (resumed.step, resumed.at, resumed.differs) == (6, info.started_at, [])

    def test_it_may_go_on_many_times(self, config: RunConfig, training: StandInTraining) -> None:
        training.does = leaving(0, checkpoint=2)
        work(config)
        training.does = leaving(4, checkpoint=5)
        work(config)
        info, snapshots, there = self.seen(config, training)
        assert [resumed.step for resumed in info.resumes] == [2, 5]
        assert (snapshots, there) == ([0, 4], [2, 5])

    def test_a_damaged_checkpoint_costs_what_came_after_the_one_before(
        self, config: RunConfig, training: StandInTraining
    ) -> None:
        def train(run: RunDirectory) -> None:
            add_checkpoint(run, 3)
            leaving(0, 4, checkpoint=6)(run)

        training.does = train
        _, run = work(config)
        damage(run, 6)
        _, snapshots, there = self.seen(config, training)
        assert (snapshots, there) == ([0], [3])
        assert "checkpoints/00000006 is damaged" in (run.path / "log.txt").read_text(encoding="utf-8")

    @pytest.mark.parametrize(("left", "generation"), [((0,), 1), ((), 1), ((0, 4), 2)])
    def test_without_a_checkpoint_it_starts_again_and_says_so_where_there_were_records(
        self, config: RunConfig, training: StandInTraining, left: tuple[int, ...], generation: int
    ) -> None:
        training.does = leaving(*left)
        work(config)
        info, snapshots, there = self.seen(config, training)
        assert (snapshots, there, info.generation, info.resumes) == ([], [], generation, [])

    def test_killed_while_records_go_it_is_another_start_all_the_same(
        self, config: RunConfig, training: StandInTraining, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        training.does = leaving(0, 4)
        work(config)

        def killed(run: RunDirectory) -> None:
            shutil.rmtree(run.path / "snapshots")
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(RunDirectory, "clear", killed)
            with pytest.raises(KeyboardInterrupt):
                work(config)
        info, snapshots, _ = self.seen(config, training)
        assert (snapshots, info.generation) == ([], 2)

    def test_where_all_are_damaged_it_starts_again(self, config: RunConfig, training: StandInTraining) -> None:
        training.does = leaving(0, 4, checkpoint=6)
        _, run = work(config)
        damage(run, 6)
        info, snapshots, there = self.seen(config, training)
        assert (snapshots, there, info.generation) == ([], [], 2)


def phrases(before: RunInfo, **changes: Any) -> list[str]:
    return list(resume.differences(before, before.model_copy(update=changes)))


def test_what_keeps_it_from_being_exact_is_told(config: RunConfig) -> None:
    info = facts.first_info(cell.plan(config), 1)
    assert phrases(info) == []
    assert phrases(info, world_size=2) == ["2 processes instead of 1"]
    assert phrases(info, threads=info.threads + 1) == [f"{info.threads + 1} threads instead of {info.threads}"]
    four = info.model_copy(update={"world_size": 4})
    assert phrases(four) == ["4 processes add up in any order"]
    assert phrases(info, versions={**info.versions, "torch": "9.9"}) == [
        f"torch 9.9 instead of {info.versions['torch']}"
    ]
    assert phrases(info, versions={**info.versions, "hydra-core": "9.9"}) == []
    assert phrases(info, hardware={**info.hardware, "processor": "an abacus"}) == [
        f"processor an abacus instead of {info.hardware['processor']}"
    ]
    assert phrases(info, accumulation=3) == ["gradients accumulated over 3 passes instead of 1"]


def test_a_gpu_is_never_called_exact(config: RunConfig) -> None:
    job = cell.plan(config)
    on_cpu, on_gpu = (facts.first_info(job, 1, accelerator) for accelerator in ("cpu", "NVIDIA H200"))
    assert on_gpu.hardware["accelerator"] == "NVIDIA H200"
    assert list(resume.differences(on_cpu, on_cpu)) == []
    assert list(resume.differences(on_gpu, on_gpu)) == ["GPUs add up in any order"]
    assert "accelerator NVIDIA H200 instead of cpu" in list(resume.differences(on_cpu, on_gpu))


def test_what_is_compared_with_is_the_first_start(config: RunConfig, training: StandInTraining) -> None:
    training.does = leaving(0, checkpoint=6)
    _, run = work(changed(config, devices={"threads": 2}))
    assert (run.info.threads, run.info.hardware["accelerator"]) == (2, "cpu")
    training.does = leaving(0)
    for threads in (1, 2):
        work(changed(config, devices={"threads": threads}))
    info = run.info
    assert info.threads == 2
    assert [resumed.threads for resumed in info.resumes] == [1, 2]
    assert [resumed.differs for resumed in info.resumes] == [
        ["1 threads instead of 2"],
        ["an earlier part of it was computed otherwise"],
    ]


class TestRefusals:
    """What would mix records of two kinds."""

    @pytest.fixture
    def run(self, config: RunConfig, training: StandInTraining) -> RunDirectory:
        """A run that has begun."""
        training.does = lambda run: run.update(hashes=HASHES, measure_versions={"loss": 1})
        return work(config)[1]

    def test_the_same_is_none(self, run: RunDirectory) -> None:
        resume.refuse_other_data(run, HASHES, {"loss": 1, "another": 7})

    def test_other_tokens_are_one(self, run: RunDirectory) -> None:
        with pytest.raises(ConfigError, match=r"its held out was bbbbbbbbbbbb and is cccccccccccc now"):
            resume.refuse_other_data(run, {**HASHES, "held_out": "c" * 64}, {})

    def test_another_meaning_of_a_measure_is_one(self, run: RunDirectory) -> None:
        with pytest.raises(ConfigError, match=r"its measure loss is of version 1, and this package has version 2"):
            resume.refuse_other_data(run, HASHES, {"loss": 2})

    def test_it_comes_before_the_probe_that_the_measure_reads(self, run: RunDirectory) -> None:
        """A hash says that something differs, a version what."""
        with pytest.raises(ConfigError, match=r"its measure loss is of version 1, and this package has version 2"):
            resume.refuse_other_data(run, {**HASHES, "held_out": "c" * 64}, {"loss": 2})

    def test_a_run_that_has_not_begun_has_nothing_to_mix_with(self, tmp_path: Path) -> None:
        resume.refuse_other_data(RunDirectory(tmp_path), HASHES, {"loss": 2})

    def test_they_come_before_anything_is_started(
        self, config: RunConfig, training: StandInTraining, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        training.does = leaving(0, checkpoint=2)
        _, run = work(config)
        run.update(measure_versions={**VERSIONS, "loss": VERSIONS["loss"] + 1})
        calls = len(training.calls)
        with pytest.raises(ConfigError, match="its measure loss is of version"):
            cell.run(config, say=lambda line: None)
        assert len(training.calls) == calls


class TestAnnouncement:
    """What the launcher says of it."""

    def said(self, config: RunConfig) -> list[str]:
        return list(announcement(config, cell.plan(config)))

    def test_a_new_run_begins(self, config: RunConfig) -> None:
        [line] = self.said(config)
        assert line.endswith(": 20 steps, 0.02M tokens")

    def test_a_begun_one_goes_on(self, config: RunConfig, training: StandInTraining) -> None:
        training.does = leaving(0, checkpoint=6)
        work(config)
        [line] = self.said(config)
        assert line.endswith(": 20 steps, 0.02M tokens, continues after step 6")

    def test_not_exactly(self, config: RunConfig, training: StandInTraining) -> None:
        training.does = leaving(0, checkpoint=6)
        work(config)
        _, second = self.said(changed(config, devices={"count": 2, "threads": 1}))
        assert "will not be exactly those of an uninterrupted run: 2 processes instead of 1" in second


def test_a_stop_request_is_no_failure_and_goes_on(config: RunConfig, training: StandInTraining) -> None:
    def train(run: RunDirectory) -> None:
        add_checkpoint(run, 6)
        stop.request()

    training.does = train
    outcome, run = work(config)
    assert (outcome.status, outcome.code) == ("preempted", 75)
    stop._requested.clear()
    training.does = lambda run: None
    outcome, run = work(config)
    assert outcome.status == "finished"
    assert [resumed.step for resumed in run.info.resumes] == [6]
