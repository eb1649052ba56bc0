"""`bump measure`: what is wrong with a run is told in a line or two, and nothing is written."""

import shutil
from pathlib import Path

import pytest

from induction_bump.cli import main as cli
from induction_bump.config.identity import run_id
from induction_bump.data.fingerprint import fingerprint
from induction_bump.records.directory import RunDirectory
from induction_bump.training.train import train
from tests.training.runs import begin, config_of


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run under its own id, with weights at steps 0, 5 and 8, and measures at 0 and 8."""
    root = tmp_path_factory.mktemp("trained")
    config = config_of(root / "cache", snapshots={"measures": {}, "weights": {"at": ["5step"]}})
    run = begin(root / "run", config)
    run.update(run_id=run_id(config, fingerprint(config.data)))
    train(config, run)
    run.update(status="finished")
    return run.path


@pytest.fixture
def run(trained: Path, directory: Path) -> RunDirectory:
    """A copy of it in the working directory, to be spoilt."""
    return RunDirectory(shutil.copytree(trained, directory / "study/run"))


def contents(directory: Path) -> dict[Path, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != "lock")
    return {path: path.read_bytes() for path in files}


def complaint(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    before = contents(Path.cwd())
    assert cli.main(["measure", *arguments]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert contents(Path.cwd()) == before
    assert len(said.err.splitlines()) <= 2
    return said.err.splitlines()[0]


def edit(run: RunDirectory, old: str, new: str) -> None:
    where = run.path / "config.yaml"
    text = where.read_text(encoding="utf-8")
    assert text.count(old) == 1
    where.write_text(text.replace(old, new), encoding="utf-8")


def test_what_is_missing_is_added(run: RunDirectory, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["measure", "study/run", "--measures", "icl_score", "--workers", "1"]) == 0
    # one number and one for each example
    assert capfd.readouterr().out == "run: 9 rows added, from 1 snapshots with weights\n"
    assert set(run.table("scalars", steps=[5]).column("name").to_pylist()) == {"icl_score"}


def test_a_run_is_named_from_inside_of_it(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.path)
    assert cli.main(["measure", ".", "--measures", "icl_score", "--workers", "1"]) == 0
    said = capfd.readouterr()
    assert said.out.startswith("run: 9 rows added")
    assert said.err == "run: snapshot 1 of 1\n"
    assert complaint([".", "--steps", "6"], capfd).startswith("bump: --steps: run has no weights of step 6; ")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("  n_heads: 2\n", "  n_heads: 2\n  heads: 2\n", "model.heads: no such key; did you mean model.n_heads?"),
        ("  n_heads: 2\n", "  n_heads: two\n", 'model.n_heads="two": must be a valid integer'),
        ("  n_heads: 2\n", "  n_heads: 3\n", "model.n_heads=3 does not divide d_model=16"),
        ("  d_model: 16\n", "  d_model: 32\n", "was changed after the run began: it is the config of run "),
        ("  learning_rate: 0.01\n", "  learning_rate: 0.02\n", "was changed after the run began: it is the config of "),
    ],
)
def test_a_config_that_was_edited_is_refused(
    run: RunDirectory, old: str, new: str, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    edit(run, old, new)
    for path in ("study/run", "study"):
        assert complaint([path, "--workers", "1"], capfd).startswith(f"bump: study/run/config.yaml: {told}")


def test_what_is_no_part_of_a_runs_identity_may_be_edited(run: RunDirectory) -> None:
    edit(run, "  accelerator: cpu\n", "  accelerator: auto\n")
    assert cli.main(["measure", "study", "--measures", "icl_score", "--steps", "5"]) == 0


@pytest.mark.parametrize("damage", ["cut short", "no safetensors", "of another model"])
def test_damaged_weights_are_named(run: RunDirectory, damage: str, capfd: pytest.CaptureFixture[str]) -> None:
    file = run.path / "snapshots/00000005/weights.safetensors"
    run.update(weights={})  # as of a run from before their hashes were noted
    if damage == "of another model":
        from safetensors.torch import load_file, save_file

        save_file({name: tensor[:1].clone() for name, tensor in load_file(file).items()}, file)
    else:
        file.write_bytes(file.read_bytes()[:-100] if damage == "cut short" else b"")
    line = complaint(["study", "--measures", "icl_score", "--workers", "1"], capfd)
    assert line.startswith("bump: study/run/snapshots/00000005/weights.safetensors: ")
    if damage == "of another model":
        assert "size mismatch" in line


def test_weights_of_another_step_are_one_line_and_what_makes_one_doubt_is_told(
    run: RunDirectory, capfd: pytest.CaptureFixture[str]
) -> None:
    file = run.path / "snapshots/00000005/weights.safetensors"
    file.write_bytes((run.path / "snapshots/00000000/weights.safetensors").read_bytes())
    line = complaint(["study", "--measures", "icl_score", "--workers", "1"], capfd)
    assert line.startswith(
        "bump: study/run/snapshots/00000005/weights.safetensors: these are not the weights that were"
    )
    run.update(weights={})
    assert cli.main(["measure", "study", "--measures", "icl_score", "--workers", "1"]) == 0
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("bump: ")]
    assert told == ["bump: run: the weights at steps 0 and 5 are the same"]


@pytest.mark.parametrize("flag", ["--measures", "--steps"])
@pytest.mark.parametrize("value", ["", ",", " , "])
def test_a_list_that_names_nothing_is_not_taken_for_all(
    run: RunDirectory, flag: str, value: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert complaint(["study", flag, value], capfd) == (
        f"bump: {flag}: '{value}' names nothing; leave the flag out to take all"
    )


def test_unknown_names_are_refused(run: RunDirectory, capfd: pytest.CaptureFixture[str]) -> None:
    assert complaint(["study", "--measures", "icl"], capfd).startswith("bump: --measures: no measure is called icl; ")
    assert complaint(["study", "--steps", "6"], capfd).startswith("bump: --steps: run has no weights of step 6; ")
    assert complaint(["study", "--steps", "x"], capfd) == (
        "bump: --steps: x must be whole numbers, separated by commas, or last"
    )


def test_a_model_that_is_not_finite_is_named_and_the_others_are_measured(
    run: RunDirectory, capfd: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    file = run.path / "snapshots/00000005/weights.safetensors"
    save_file({name: tensor * float("nan") for name, tensor in load_file(file).items()}, file)
    run.update(weights={})
    assert cli.main(["measure", "study", "--measures", "zero_ablation", "--workers", "1"]) == 1
    said = capfd.readouterr()
    assert said.out.splitlines()[0].endswith(" rows added, from 2 snapshots with weights")
    told = [line for line in said.err.splitlines() if line.startswith("bump: ")]
    assert told == ["bump: run: at step 5 the model's losses are not finite; nothing was measured there"]


def test_a_lost_process_is_one_line(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from induction_bump.pools import WorkerLostError
    from induction_bump.training import measure_saved

    def lost(*_: object, **__: object) -> None:
        raise WorkerLostError("a process was lost")

    monkeypatch.setattr(measure_saved, "measure", lost)
    assert cli.main(["measure", "study"]) == 1
    assert capfd.readouterr().err == "bump: a process was lost\n"
