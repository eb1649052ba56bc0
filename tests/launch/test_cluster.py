"""Cells as jobs: what submitit asks of a job is passed on to its workers, and a requeued job goes on with its run."""

import os
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from induction_bump.cli.main import main
from induction_bump.config.compose import compose
from induction_bump.data.building import locked
from induction_bump.launch import cell, stop
from induction_bump.launch.cluster import Cluster
from induction_bump.launch.ledger import Ledger
from induction_bump.launch.plan import Cell
from induction_bump.launch.task import Task
from tests.launch.sweeping import Sweep, until

LOCAL = "hydra/launcher=slurm_local"


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Callable[..., Sweep]]:
    """Starts sweeps and cleans up after them."""
    started: list[Sweep] = []

    def start(*arguments: str, seeds: int = 2) -> Sweep:
        started.append(Sweep.start(tmp_path, LOCAL, "devices.threads=1", *arguments, seeds=seeds))
        return started[-1]

    yield start
    for each in started:
        each.clean_up()


@pytest.mark.processes
def test_a_preempted_job_stops_its_workers_is_requeued_and_goes_on(sweep: Callable[..., Sweep], tmp_path: Path) -> None:
    running = sweep()
    begun = running.await_runs(2)
    os.kill(begun[0]["launcher"], signal.SIGUSR2)
    until(lambda: running.begun()[0]["pid"] != begun[0]["pid"], "the run began again")
    assert list(tmp_path.glob("ended-*")) == [tmp_path / f"ended-0-{begun[0]['pid']}"]  # at a step boundary
    assert running.statuses() == {0: "running", 1: "running"}
    (tmp_path / "go").touch()
    code, said, complaints = running.end()
    assert (code, complaints) == (0, "")
    assert running.statuses() == {0: "finished", 1: "finished"}
    assert said.startswith("2 runs as jobs ")
    metadata = tmp_path / "runs/debug/.sweep"
    assert not list((metadata / "jobs").glob("sweep-*"))
    assert {path.name for path in metadata.iterdir() if path.suffix != ".json"} == {"jobs", "remembered"}
    until(running.none_left, "no process is left")


@pytest.mark.processes
def test_a_signal_to_the_launcher_stops_all_jobs_and_requeues_none(sweep: Callable[..., Sweep]) -> None:
    running = sweep()
    running.await_runs(2)
    running.process.send_signal(signal.SIGTERM)
    code, said, complaints = running.end()
    assert (code, complaints) == (75, "")
    assert [line.split()[0] for line in said.splitlines()[-2:]] == ["preempted", "preempted"]
    assert running.statuses() == {0: "preempted", 1: "preempted"}
    until(running.none_left, "no process is left")


@pytest.mark.processes
@pytest.mark.slow
def test_a_second_ctrl_c_ends_jobs_that_do_not_listen(sweep: Callable[..., Sweep], tmp_path: Path) -> None:
    (tmp_path / "deaf").touch()
    running = sweep()
    running.await_runs(2)
    os.killpg(running.process.pid, signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        running.process.wait(1.5)
    os.killpg(running.process.pid, signal.SIGINT)
    code, _, complaints = running.end()
    assert code == 75
    assert "Traceback" not in complaints
    until(running.none_left, "no process is left")


@pytest.mark.processes
@pytest.mark.slow
def test_nothing_is_left_of_a_launcher_of_local_jobs_that_is_killed(sweep: Callable[..., Sweep]) -> None:
    running = sweep()
    running.await_runs(2)
    os.killpg(running.process.pid, signal.SIGKILL)
    until(running.none_left, "no process is left")


@pytest.mark.processes
@pytest.mark.slow
def test_a_job_that_is_killed_is_a_failed_run_and_hides_nothing_of_the_others(
    sweep: Callable[..., Sweep], tmp_path: Path
) -> None:
    running = sweep()
    begun = running.await_runs(2)
    os.kill(begun[0]["launcher"], signal.SIGKILL)
    (tmp_path / "go-1").touch()
    code, said, complaints = running.end()
    assert code == 1
    assert [line.split()[0] for line in said.splitlines()[-2:]] == ["failed", "finished"]
    assert "ended without an outcome" in complaints
    assert running.statuses() == {0: "failed", 1: "finished"}


def test_the_request_waits_for_workers_for_a_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from induction_bump.launch import submitted
    from induction_bump.launch.ledger import Ledger
    from induction_bump.launch.task import Task

    run = submitted.SubmittedCell(Task({}, []), [0], Ledger(tmp_path), launcher=None, patience=0.3)
    worker = psutil.Popen(["sleep", "60"])
    monkeypatch.setattr(submitted.BaseSubmititLauncher, "checkpoint", lambda *_: "requeued")
    try:
        with stop.taking_signals(tmp_path, at_once=lambda: None):
            assert run.checkpoint() == "requeued"
        assert (tmp_path / "stop").exists()
        assert worker.is_running()
    finally:
        worker.kill()
        worker.wait()


class TestSlurm:
    """What is asked of SLURM, as submitit writes it."""

    @pytest.fixture(autouse=True)
    def tools(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """SLURM's commands are there, and do nothing."""
        for name in ("srun", "sbatch"):
            (tmp_path / name).write_text("#!/bin/sh\n", encoding="utf-8")
            (tmp_path / name).chmod(stat.S_IRWXU)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def script(self, tmp_path: Path, overrides: list[str], **parameters: Any) -> str:
        config = compose([*overrides, f"paths.runs={tmp_path}/runs", f"paths.cache={tmp_path}/cache"])
        cluster = Cluster(**parameters)
        cluster.setup(hydra_context=SimpleNamespace(), task_function=lambda _: None, config=SimpleNamespace())  # type: ignore[arg-type]
        one = Cell.of([], config, cell.plan(config))
        cluster.prepare([one])
        executor = cluster._executor(tmp_path / "jobs", dict(cluster._needs(one)))
        return executor._executor._make_submission_file_text("true", "id")

    @pytest.mark.parametrize(
        ("overrides", "gpus", "cores"),
        [
            (["devices=cpu"], None, 4),
            (["devices=cpu", "devices.threads=2"], None, 2),
            (["devices=two_cpu", "devices.threads=3"], None, 6),
            (["devices=gpu"], 1, 8),
            (["devices=gpu", "devices.count=2", "devices.loader_workers=1"], 2, 10),
        ],
    )
    def test_one_task_with_gpus_and_cores_as_the_devices_ask(
        self, overrides: list[str], gpus: int | None, cores: int, tmp_path: Path
    ) -> None:
        lines = self.script(tmp_path, overrides).splitlines()
        assert "#SBATCH --nodes=1" in lines
        assert "#SBATCH --ntasks-per-node=1" in lines
        assert f"#SBATCH --cpus-per-task={cores}" in lines
        asked = [line.split("=")[1] for line in lines if "--gpus-per-node" in line]
        assert asked in ([], ["0"]) if gpus is None else asked == [str(gpus)]

    def test_the_warning_the_limit_and_what_else_is_given(self, tmp_path: Path) -> None:
        lines = self.script(
            tmp_path,
            ["devices=cpu"],
            timeout_min=90,
            signal_delay_s=45,
            partition="short",
            cpus_per_task=7,
            additional_parameters={"reservation": "us"},
        ).splitlines()
        assert "#SBATCH --time=90" in lines
        assert "#SBATCH --signal=USR2@45" in lines
        assert "#SBATCH --partition=short" in lines
        assert "#SBATCH --cpus-per-task=7" in lines
        assert "#SBATCH --reservation=us" in lines

    def refuse(self, tmp_path: Path, *, but_first: int = 0) -> None:
        """Let sbatch take some submissions and refuse the others."""
        answer = f"""#!/bin/sh
echo >> {tmp_path}/asked
[ $(wc -l < {tmp_path}/asked) -gt {but_first} ] || {{ echo Submitted batch job 70; exit 0; }}
echo 'sbatch: error: invalid partition specified: nope' >&2
echo 'sbatch: error: Batch job submission failed: Invalid partition name specified' >&2
exit 1
"""
        (tmp_path / "sbatch").write_text(answer, encoding="utf-8")

    def test_what_it_refuses_is_told_in_one_line_and_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        self.refuse(tmp_path)
        monkeypatch.chdir(tmp_path)
        before = set(tmp_path.iterdir())
        sweep = ["train", "-m", "experiment=debug", "seed.init=0,1", "hydra/launcher=slurm", "devices=cpu"]
        assert main([*sweep, "tracking=none", "paths.cache=cache", "hydra.launcher.partition=nope"]) == 2
        said = capfd.readouterr()
        assert said.err == (
            "bump: hydra/launcher=slurm: sbatch: error: Batch job submission failed: Invalid partition name specified\n"
        )
        assert said.out == ""
        left = {path.name for path in set(tmp_path.iterdir()) - before}
        assert left <= {"asked", "cache", "runs"}
        assert not list(tmp_path.glob("runs/*"))

    def submit(self, tmp_path: Path, *devices: str) -> tuple[Path, dict[int, Any], list[Any]]:
        """Submit a cell for each kind of devices; the directory of the jobs, what was refused, and what was not."""
        cluster = Cluster()
        cluster.setup(hydra_context=SimpleNamespace(), task_function=Task({}, []), config=SimpleNamespace())  # type: ignore[arg-type]
        configs = [compose([f"paths.runs={tmp_path}/runs", f"devices={each}"]) for each in devices]
        cluster.prepare([Cell.of([], config, cell.plan(config)) for config in configs])
        jobs, submitted = tmp_path / "jobs", list[Any]()
        jobs.mkdir(exist_ok=True)
        return jobs, cluster._submit([[] for _ in devices], Ledger(tmp_path), jobs, submitted), submitted

    def test_what_it_takes_goes_on_where_it_refuses_the_rest(self, tmp_path: Path) -> None:
        self.refuse(tmp_path, but_first=1)
        jobs, refused, submitted = self.submit(tmp_path, "cpu", "two_cpu")
        assert [(each.number, each.job.job_id) for each in submitted] == [(0, "70")]
        assert {number: outcome.status for number, outcome in refused.items()} == {1: "refused"}
        assert [path.name for path in jobs.rglob("*.pkl")] == ["70_submitted.pkl"]

    def test_what_somebody_else_puts_there_meanwhile_is_left_where_it_refuses(self, tmp_path: Path) -> None:
        self.refuse(tmp_path)
        asked = tmp_path / "sbatch"
        asked.write_text(
            asked.read_text(encoding="utf-8").replace("#!/bin/sh", f"#!/bin/sh\necho mine > {tmp_path}/jobs/note.txt"),
            encoding="utf-8",
        )
        jobs, refused, _ = self.submit(tmp_path, "cpu")
        assert refused
        assert [path.name for path in jobs.iterdir() if path.is_file()] == ["note.txt"]

    def test_sweeps_of_a_study_submit_one_after_the_other(self, tmp_path: Path) -> None:
        """Or one that is refused would clear away what the other has prepared."""
        self.refuse(tmp_path)
        self.submit(tmp_path, "cpu")  # once, so that everything is imported
        (tmp_path / "asked").unlink()
        with ThreadPoolExecutor() as threads:
            with locked(tmp_path / "jobs/submitting.lock"):
                later = threads.submit(self.submit, tmp_path, "cpu")
                with pytest.raises(TimeoutError):
                    later.result(timeout=1)
                prepared = tmp_path / "jobs/another.pkl"
                prepared.touch()
                assert not (tmp_path / "asked").exists()
            assert later.result(timeout=60)[1]
        assert prepared.exists()

    @pytest.mark.parametrize("wrong", ["max_num_timeout=-1", "max_num_timeout=often", "signal_delay_s=1.5"])
    def test_a_wrong_number_is_refused_in_one_line(
        self, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["train", "-m", "seed.init=0,1", "hydra/launcher=slurm", f"hydra.launcher.{wrong}"]) == 2
        assert capfd.readouterr().err == f"bump: hydra.launcher.{wrong}: must be a whole number of at least 0\n"


def test_slurm_where_there_is_none_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["train", "-m", "seed.init=0,1", "hydra/launcher=slurm"]) == 2
    [said] = capfd.readouterr().err.splitlines()
    assert said == "bump: hydra/launcher=slurm: this machine has no srun; start from one of the cluster's"
    assert list(tmp_path.iterdir()) == []


def test_a_parameter_that_submitit_does_not_know_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "-m", "seed.init=0,1", LOCAL, "+hydra.launcher.gpus=2"]) == 2
    [said] = capfd.readouterr().err.splitlines()
    assert said.startswith("bump: hydra.launcher: ")
    assert "gpus" in said
    assert list(tmp_path.iterdir()) == []
