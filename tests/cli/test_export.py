"""`bump export`."""

import subprocess
import sys
from pathlib import Path

import pytest

from induction_bump.cli import main as cli
from induction_bump.records.directory import RunDirectory
from tests.training.test_export import saved_run, tree


@pytest.fixture
def run(directory: Path) -> RunDirectory:
    """A run with weights at 0, 5 and 8, in the working directory."""
    return saved_run(directory / "study/run")


def test_it_prints_where_the_export_is(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", "study/run", "--to", "transformer_lens"]) == 0
    assert cli.main(["export", "study/run", "--to", "transformer_lens", "--step", "5", "--out", "here"]) == 0
    first, second = map(Path, capsys.readouterr().out.splitlines())
    assert first == run.path / "export/transformer_lens-8"
    assert second == Path.cwd() / "here"
    assert (first / "model.safetensors").is_file()
    assert (second / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["study/run", "--to", "onnx"], "bump: --to=onnx: no such format"),
        (["study/run", "--to", "transformer_lens", "--step", "7"], "bump: --step=7: no weights were saved there"),
        (["study/run", "--to", "transformer_lens", "--out", "study"], "bump: --out=study: is there already"),
        (
            ["study/run", "--to", "transformer_lens", "--out", "study/run/run.json/a/b"],
            "bump: --out=study/run/run.json/a/b: study/run/run.json is a file; choose another",
        ),
        (["study", "--to", "transformer_lens"], "bump: study: is a study"),
        (["missing", "--to", "transformer_lens"], "bump: missing: no such directory"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    run: RunDirectory, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(Path.cwd())
    assert cli.main(["export", *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(told)
    assert tree(Path.cwd()) == before


def test_a_model_that_the_format_cannot_hold_is_one_line(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved_run(directory / "run", sublayers="ssf")
    assert cli.main(["export", "run", "--to", "transformer_lens"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("bump: model.sublayers='ssf': ")


@pytest.mark.processes
def test_a_wrong_path_is_told_without_torch() -> None:
    code = (
        "import sys; from induction_bump.cli.main import main\n"
        "assert main(['export', 'missing', '--to', 'transformer_lens']) == 2\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
