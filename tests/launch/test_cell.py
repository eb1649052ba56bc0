"""From a config to how its run ended, with the workers replaced by a stand-in."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from induction_bump.config.errors import ConfigError
from induction_bump.config.resolve import dump, load
from induction_bump.data.errors import CorpusError
from induction_bump.launch import cell, note, stop, worker, workers
from induction_bump.launch.job import Job
from induction_bump.launch.outcome import Outcome
from induction_bump.records.directory import RunDirectory
from induction_bump.records.lock import RunLock
from induction_bump.training.options import RunConfig
from tests.launch.conftest import StandInTraining, changed
from tests.tracking.wandb_double import isolate


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the one worker run in this process."""

    def run(job: Job, devices: int, directory: Path, environment: Mapping[str, str], **how: object) -> int:
        outcome = worker.work(job, None)
        if outcome.code and not outcome.recorded:
            note.Note(outcome.message or "", outcome.status).leave(directory)
        return 0

    monkeypatch.setattr(workers, "run", run)


def run(config: RunConfig) -> Outcome:
    return cell.run(config, say=lambda line: None)


def test_a_new_run_is_trained_and_a_finished_one_is_skipped(config: RunConfig, training: StandInTraining) -> None:
    assert [run(config).status, run(config).status] == ["finished", "skipped"]
    assert len(training.calls) == 1


def test_the_run_lies_in_its_study_under_its_readable_name_and_id(
    config: RunConfig, training: StandInTraining, tmp_path: Path
) -> None:
    outcome = run(config)
    assert outcome.path == str(tmp_path / f"runs/debug/2L-attn-rotary-d64-h4-s0-{outcome.run_id}")


def test_a_run_is_found_by_its_id_whatever_it_is_called(config: RunConfig, training: StandInTraining) -> None:
    first = run(config)
    renamed = load(dump(config) | {"name": "another"})
    assert run(renamed) == Outcome(first.run_id, first.path, "skipped")


def test_a_relative_or_home_directory_of_runs_becomes_absolute(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert cell.study_directory(changed(config, paths={"runs": "~/r"})) == Path("/home/someone/r/debug")
    assert cell.study_directory(changed(config, paths={"runs": "./r"})) == Path.cwd() / "r/debug"


def test_a_directory_that_holds_another_run_is_refused(config: RunConfig, training: StandInTraining) -> None:
    path = Path(run(config).path)
    other = changed(config, seed={"init": 5})
    path.rename(cell.plan(other).path)
    with pytest.raises(ConfigError, match=f"{other.study}.*: belongs to another config"):
        run(other)
    assert len(training.calls) == 1


def test_a_directory_whose_config_was_edited_is_refused(config: RunConfig, training: StandInTraining) -> None:
    where = Path(run(config).path) / "config.yaml"
    where.write_text(where.read_text(encoding="utf-8").replace("n_heads: 4", "n_heads: 2"), encoding="utf-8")
    with pytest.raises(ConfigError, match="belongs to another config"):
        run(config)


@pytest.mark.parametrize("damage", ["{", "{}", "[]"])
def test_a_directory_that_cannot_be_read_is_refused_and_left_as_it_is(
    config: RunConfig, training: StandInTraining, damage: str
) -> None:
    where = Path(run(config).path) / "run.json"
    where.write_text(damage, encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot tell which run this is"):
        run(config)
    assert where.read_text(encoding="utf-8") == damage


def test_a_writer_is_awaited_and_named(
    config: RunConfig, training: StandInTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LOCK_SECONDS", 0.2)
    held = RunLock(Path(cell.plan(config).path))
    held.acquire()
    outcome = run(config)
    held.release()
    assert (outcome.status, outcome.code) == ("busy", 1)
    assert f"process {os.getpid()}" in str(outcome.message)
    assert not training.calls


def test_a_writer_that_comes_first_at_the_last_moment_is_no_failure_of_the_run(
    config: RunConfig, training: StandInTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LOCK_SECONDS", 0.2)
    monkeypatch.setattr(cell, "is_locked", lambda path: False)
    held = RunLock(Path(cell.plan(config).path))
    held.acquire()
    outcome = run(config)
    held.release()
    assert (outcome.status, outcome.code) == ("busy", 1)
    assert not RunDirectory(outcome.path).exists


@pytest.mark.usefixtures("no_companion")
@pytest.mark.parametrize("live", [True, False])
def test_the_first_line_says_how_long_it_takes_and_where_it_can_be_watched(
    config: RunConfig, training: StandInTraining, live: bool
) -> None:
    said: list[str] = []
    path = Path(cell.run(changed(config, report={"live": live}), say=said.append).path)
    [line] = said
    assert line.startswith(f"{path.name}: 20 steps, 0.02M tokens")
    assert line.endswith(f"; to watch it, open {path}/report.html") is live


def test_a_corpus_that_cannot_be_had_leaves_nothing(config: RunConfig, tmp_path: Path) -> None:
    missing = changed(config, data={"corpus": {"name": "files", "paths": [str(tmp_path / "nothing")]}})
    with pytest.raises(CorpusError, match=r"data\.corpus\.paths"):
        run(missing)
    assert list(tmp_path.iterdir()) == []


def test_what_a_companion_left_undone_belongs_to_the_outcome(
    config: RunConfig, training: StandInTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = note.Note(None, "finished", ("some rows",))
    monkeypatch.setattr(workers, "run", lambda job, devices, directory, *_, **how: told.leave(directory))
    outcome = run(config)
    assert (outcome.status, outcome.code, outcome.left) == ("finished", 0, ("some rows",))


def test_after_a_stop_request_nothing_is_started(config: RunConfig, training: StandInTraining) -> None:
    stop.request()
    outcome = run(config)
    assert (outcome.status, outcome.code) == ("waiting", 75)
    assert not Path(outcome.path).exists()


def test_a_note_is_the_outcome_of_a_worker_that_could_not_write(
    config: RunConfig, training: StandInTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "config.yaml")

    monkeypatch.setattr(RunDirectory, "begin", begin)
    outcome = run(config)
    assert (outcome.status, outcome.message) == ("failed", "disk full: cannot write config.yaml")


START_AND_DIE = """
import os, sys, tempfile
from induction_bump.launch import cell
os.access, tempfile.tempdir = lambda *_: False, sys.argv[1]
with cell.private_directory() as private:
    (private / "stop").touch()
    os.kill(os.getpid(), 9)
"""


class TestPrivateDirectories:
    """A launch removes its own, those of launches that were killed, and nothing else."""

    @pytest.fixture(autouse=True)
    def shared(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Where all users of a machine have such things, full of what is long since left alone."""
        monkeypatch.setattr(os, "access", lambda *_: False)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        return tmp_path

    @pytest.mark.processes
    def test_that_of_a_killed_launch_goes_at_once_and_those_in_use_stay(self, shared: Path) -> None:
        subprocess.run([sys.executable, "-c", START_AND_DIE, str(shared)], check=False, timeout=60)
        [abandoned] = shared.iterdir()
        with cell.private_directory() as mine, cell.private_directory() as second:
            assert set(shared.iterdir()) == {mine, second}
            assert abandoned not in (mine, second)
        assert list(shared.iterdir()) == []

    @pytest.mark.parametrize("name", ["bump-results", "induction-bump-{uid}-thesis", "induction-bump-{uid}"])
    def test_a_directory_of_somebody_else_that_is_named_like_one_stays(self, shared: Path, name: str) -> None:
        directory = shared / name.format(uid=os.getuid())
        directory.mkdir()
        (directory / "thesis.csv").write_text("three years", encoding="utf-8")
        for path in (directory / "thesis.csv", directory):
            os.utime(path, (0, 0))
        with cell.private_directory():
            pass
        assert (directory / "thesis.csv").read_text(encoding="utf-8") == "three years"

    def test_what_a_link_with_such_a_name_leads_to_stays(self, shared: Path) -> None:
        with cell.private_directory() as private:
            (shared / "elsewhere").mkdir()
            copied = shared / "elsewhere" / private.name
            shutil.copytree(private, copied)
        private.symlink_to(copied)
        with cell.private_directory():
            pass
        assert private.is_symlink()
        assert list(copied.iterdir())

    def test_that_of_another_user_stays(self, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with cell.private_directory() as private:
            another = shared / private.name.replace(f"-{os.getuid()}-", "-4321-")
            shutil.copytree(private, another)
        monkeypatch.setattr(os, "getuid", lambda: 4321)
        with cell.private_directory():
            pass
        assert another.is_dir()


class TestOnlineTracking:
    """It is had or refused, before anything is started."""

    @pytest.fixture
    def online(self, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
        """A run that wants it, in a home without a login."""
        isolate(tmp_path, monkeypatch)
        return changed(config, tracking={"mode": "online"})

    def test_without_a_login_it_is_refused_and_leaves_nothing(
        self, online: RunConfig, training: StandInTraining
    ) -> None:
        with pytest.raises(ConfigError, match=r"tracking\.mode=online needs a login for"):
            run(online)
        assert not training.calls
        assert not Path(online.paths.runs).exists()
        assert not Path(online.paths.cache).exists()

    def test_a_finished_run_needs_none(self, online: RunConfig, training: StandInTraining) -> None:
        run(changed(online, tracking={"mode": "none"}))
        assert run(online).status == "skipped"

    def test_the_ranks_that_do_not_mirror_need_none(
        self, online: RunConfig, training: StandInTraining, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMP_SPINCOUNT"):
            monkeypatch.setenv(key, "1")
        for key, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost"}.items():
            monkeypatch.setenv(key, value)
        assert run(changed(online, devices={"count": 2})).status == "finished"


class TestWorkersThatVanish:
    """Their launcher writes down what became of the run."""

    @pytest.fixture(autouse=True)
    def vanish(self, training: StandInTraining, monkeypatch: pytest.MonkeyPatch) -> None:
        def run(job: Job, devices: int, directory: Path, environment: Mapping[str, str], **how: object) -> int:
            worker.work(job, None)
            RunDirectory(job.path).update(status="running", finished_at=None)
            return -9

        monkeypatch.setattr(workers, "run", run)

    def test_a_killed_worker_is_a_failure_that_names_the_signal(self, config: RunConfig) -> None:
        outcome = run(config)
        assert outcome.code == 1
        assert outcome.message == "a worker process was ended by signal 9 without saying why"
        assert RunDirectory(outcome.path).info.status == "failed"

    def test_after_a_stop_request_the_run_is_preempted(self, config: RunConfig, training: StandInTraining) -> None:
        training.does = lambda run: stop.request()
        outcome = run(config)
        assert outcome.code == 75
        assert RunDirectory(outcome.path).info.status == "preempted"


@pytest.mark.parametrize("before", ["preempted", "failed"])
def test_workers_that_die_before_they_begin_do_not_end_as_the_attempt_before(
    config: RunConfig, training: StandInTraining, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    path = run(config).path
    RunDirectory(path).update(status=before, message="an old one")
    monkeypatch.setattr(workers, "run", lambda *arguments, **how: -9)
    outcome = run(config)
    assert (outcome.status, outcome.code) == ("failed", 1)
    assert outcome.message == "a worker process was ended by signal 9 without saying why"


class TestInsideARank:
    """The process is its rank, and starts none."""

    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(workers, "run", None)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        monkeypatch.setenv("MKL_NUM_THREADS", "1")
        for key, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost"}.items():
            monkeypatch.setenv(key, value)

    def test_it_trains_in_place(self, config: RunConfig, training: StandInTraining) -> None:
        assert run(changed(config, devices={"count": 2})).status == "finished"
        assert len(training.calls) == 1

    def test_it_does_not_wait_for_the_first_rank_to_release_its_lock(
        self, config: RunConfig, training: StandInTraining
    ) -> None:
        both = changed(config, devices={"count": 2})
        held = RunLock(Path(cell.plan(both).path))
        held.acquire()
        assert run(both).status == "finished"
        held.release()

    def test_the_number_of_processes_must_be_the_number_of_devices(
        self, config: RunConfig, training: StandInTraining
    ) -> None:
        with pytest.raises(ConfigError, match=r"devices\.count=1 × devices\.nodes=1: torchrun started 2 processes"):
            run(config)


def test_several_nodes_are_not_started_from_here(config: RunConfig) -> None:
    with pytest.raises(ConfigError, match=r"devices\.nodes=2: start one `bump train` a device with srun or torchrun"):
        run(changed(config, devices={"nodes": 2}))


@pytest.mark.parametrize(
    ("began", "cores", "given", "threads"),
    [(3, 4, None, 3), (3, 4, 2, 2), (3, 2, None, 2), (3, 3, None, 3)],
    ids=["as it began", "the user knows better", "too few cores", "just enough"],
)
def test_an_unfinished_run_goes_on_with_the_threads_it_began_with(
    config: RunConfig,
    training: StandInTraining,
    monkeypatch: pytest.MonkeyPatch,
    began: int,
    cores: int,
    given: int | None,
    threads: int,
) -> None:
    run(changed(config, devices={"threads": began}))
    monkeypatch.setattr(cell, "available_cores", lambda: cores)
    monkeypatch.setattr("induction_bump.launch.job.available_cores", lambda: cores)
    assert cell.plan(changed(config, devices={"threads": given})).threads == threads


def test_a_run_of_other_processes_has_threads_of_its_own(
    config: RunConfig, training: StandInTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(changed(config, devices={"threads": 1}))
    monkeypatch.setattr("induction_bump.launch.job.available_cores", lambda: 8)
    assert cell.plan(changed(config, devices={"count": 2})).threads == 4


def test_each_corpus_of_a_sweep_is_made_once(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    from induction_bump.data import corpus

    made: list[int] = []
    prepare = corpus.prepare
    monkeypatch.setattr(corpus, "prepare", lambda data, cache: (made.append(data.context), prepare(data, cache))[1])
    cell.prepare_data([config, changed(config, seed={"init": 5}), changed(config, data={"context": 129})])
    assert made == [128, 129]


def test_a_job_survives_the_environment(config: RunConfig) -> None:
    job = replace(cell.plan(config), launcher="12:3.5")
    assert Job.from_environment(job.to_environment()) == job
    assert job.typed == config
