"""One command, quick to answer, with exit codes that scripts can rely on."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from induction_bump import __version__
from induction_bump.cli import main as cli
from tests.records.make import make_run


@pytest.mark.parametrize("command", ["train", "locate", "report", "measure", "status", "track", "export"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = cli.main([command, "--help"])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 0
    assert f"usage: bump {command}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--version"], ["train", "--version"], ["train", "seed.init=1", "--version"]])
def test_the_version_is_that_of_this_package(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = cli.main(arguments)
    except SystemExit as stopped:
        code = stopped.code
    assert code == 0
    assert capsys.readouterr().out == f"induction-bump {__version__}\n"


def test_the_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    said = capsys.readouterr().out
    assert all(f"    {command} " in said for command in cli.COMMANDS)


def test_the_help_of_train_lists_what_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["train", "-h"])
    said = capsys.readouterr().out
    assert "experiment     debug, python_source, quickstart, real_text, repeats_long" in said
    assert "hydra/launcher pool, slurm, slurm_local" in said
    assert "sweeps         batch_context, clamps, depth," in said


def test_the_help_of_train_lists_what_the_users_own_directory_adds(
    directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for file in ("own/experiment/mine.yaml", "own/corpora/news.yaml"):
        (directory / file).parent.mkdir(parents=True, exist_ok=True)
        (directory / file).touch()
    for flag in (["--config-dir", "own"], ["--config-dir=own"], ["-cd", "own"], ["--config-path", "own"]):
        assert cli.main(["train", *flag, "experiment=mine", "--help"]) == 0
        said = capfd.readouterr().out
        assert "experiment     debug, mine, python_source, " in said
        assert "corpora        news" in said
        assert "sweeps         batch_context, clamps, depth," in said
    assert cli.main(["train", "--help", "--config-dir", "nowhere"]) == 2
    assert capfd.readouterr().err == "bump: --config-dir=nowhere: must be a directory\n"


@pytest.mark.parametrize("arguments", [["nonsense"], [], ["locate"], ["locate", "a", "b"], ["report", "--fast"]])
def test_a_usage_error_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) <= 3


@pytest.mark.parametrize("command", ["locate", "report", "measure", "status", "track"])
@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_a_wrong_path_is_told_in_one_line(
    command: str, kind: str, directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if kind == "empty":
        (directory / "empty").mkdir()
    elif kind == "file":
        (directory / "file").touch()
    before = sorted(directory.rglob("*"))
    assert cli.main([command, kind]) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith(f"bump: {kind}: ")
    assert sorted(directory.rglob("*")) == before


@pytest.mark.parametrize("command", ["locate", "report", "measure", "status", "track"])
def test_a_directory_above_or_below_is_told_with_what_is_meant(
    command: str, directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = make_run(directory / "runs", study="s", snapshots=2)
    assert cli.main([command, "runs"]) == 2
    assert capfd.readouterr().err == "bump: runs: holds studies; give one of them: s\n"
    assert cli.main([command, str(path / "snapshots")]) == 2
    assert capfd.readouterr().err == f"bump: {path}/snapshots: is a part of a run; give the run: {path}\n"


def test_a_study_is_located_and_reported(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(directory, study="s", snapshots=12)
    assert cli.main(["locate", "s"]) == 0
    assert (directory / "s/phase_changes.csv").is_file()
    assert cli.main(["report", "s"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(directory / "s/report.html")
    assert cli.main(["status", "s"]) == 0
    assert "finished" in capsys.readouterr().out


DAMAGES = {
    "run.json": b'{"run_id": 1}',
    "config.yaml": b"model: {n_heads: x}\n",
    "tables/scalars.parquet": b"PAR1 and no more",
}


@pytest.mark.parametrize("file", DAMAGES)
def test_a_damaged_run_is_named_and_keeps_no_other_from_being_located(
    file: str, directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = [make_run(directory, study="s", name=name, snapshots=12) for name in ("a", "b", "c")]
    (paths[1] / file).write_bytes(DAMAGES[file])
    assert cli.main(["locate", "s"]) == 2
    said = capfd.readouterr()
    [line] = said.err.splitlines()
    assert line.startswith(f"bump: {paths[1].name}: s/{paths[1].name}/{file}: ")
    assert said.out.count("Bump located in the") == 1
    assert paths[2].name in said.out
    assert paths[1].name not in said.out
    assert set(pd.read_csv(directory / "s/phase_changes.csv").run) == {paths[0].name, paths[2].name}
    assert not (paths[1] / "phase_changes.csv").exists()
    assert cli.main(["locate", str(paths[1])]) == 2


@pytest.mark.parametrize("command", ["locate", "report", "status", "measure", "track"])
def test_a_finished_run_without_its_tables_is_told_in_one_line(
    command: str, directory: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = make_run(directory, study="s", snapshots=6)
    shutil.rmtree(path / "tables")
    try:
        cli.main([command, str(path)])
    finally:
        lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        f"{path.name}: tables/ of this finished run is missing; its snapshots are read instead, without what was "
        "measured afterwards, which bump measure takes again"
    ]


@pytest.mark.parametrize("command", ["locate", "report"])
def test_nothing_is_found_in_no_records_but_that_they_are_missing(
    command: str, directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = make_run(directory, study="s", snapshots=6)
    for name in ("tables", "snapshots"):
        shutil.rmtree(path / name)
    assert cli.main([command, str(path)]) == 2
    said = capfd.readouterr()
    assert said.err.splitlines()[-1].endswith(
        "/tables: is missing, and so are the snapshots, of a run that is finished; "
        "copy the run here whole, or train it again"
    )
    assert "bump" not in said.out.lower()


def test_a_study_of_damaged_runs_has_no_table(directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = make_run(directory, study="s", snapshots=3)
    (path / "run.json").write_text("{", encoding="utf-8")
    assert cli.main(["locate", "s"]) == 2
    assert capfd.readouterr().err.startswith(f"bump: s/{path.name}/run.json: ")
    assert not (directory / "s/phase_changes.csv").exists()


@pytest.mark.parametrize("file", ["run.json", "tables/scalars.parquet"])
def test_a_damaged_run_is_named_and_keeps_no_other_from_its_page(
    file: str, directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = [make_run(directory, study="s", name=name, snapshots=12) for name in ("a", "b", "c")]
    (paths[1] / file).write_bytes(DAMAGES[file])
    assert cli.main(["report", "s"]) == 2
    said = capfd.readouterr()
    [line] = said.err.splitlines()
    assert line.startswith(f"bump: {paths[1].name}: s/{paths[1].name}/{file}: ")
    assert said.out == f"{directory}/s/report.html\n"
    assert [(path / "report.html").is_file() for path in paths] == [True, False, True]
    page = (directory / "s/report.html").read_text(encoding="utf-8")
    assert [f'href="{path.name}/report.html"' in page for path in paths] == [True, False, True]


def test_a_study_of_which_no_run_can_be_read_has_no_page(directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = make_run(directory, study="s", snapshots=3)
    (path / "run.json").write_text("{", encoding="utf-8")
    assert cli.main(["report", "s"]) == 2
    assert capfd.readouterr().err.startswith(f"bump: s/{path.name}/run.json: ")
    assert not (directory / "s/report.html").exists()


def test_a_bug_is_not_dressed_up_as_a_mistake(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    def broken(*_: object) -> None:
        raise ValueError("shapes do not match")

    monkeypatch.setattr("induction_bump.launch.study.status", broken)
    with pytest.raises(ValueError, match="shapes"):
        cli.main(["status", "s"])


@pytest.mark.processes
@pytest.mark.parametrize(
    "statement",
    [
        "from induction_bump.cli.main import main; main(['train', '--help'])",
        "import induction_bump.cli.train, induction_bump.config.compose, induction_bump.launch.cell",
        "import induction_bump.launch.worker, induction_bump.launch.sweeper, induction_bump.launch.study",
        "from induction_bump.cli.main import main; main(['train', '--cfg', 'job'])",
    ],
)
def test_no_torch_is_loaded_to_launch(statement: str) -> None:
    check = "import sys; assert not {'torch', 'pytorch_lightning', 'datasets', 'wandb', 'plotly'} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", f"{statement}\n{check}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.processes
@pytest.mark.parametrize(("arguments", "seconds"), [(["-m", "induction_bump.cli.main", "--help"], 1.0)])
def test_the_help_takes_less_processor_time_than_a_second(arguments: list[str], seconds: float) -> None:
    # processor time, since other tests may share the machine
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True);"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, sys.executable, *arguments], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < seconds


@pytest.mark.processes
def test_importing_the_package_loads_next_to_nothing() -> None:
    code = "import sys; before = set(sys.modules); import induction_bump; print(len(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 5
