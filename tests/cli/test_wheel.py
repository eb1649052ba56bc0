"""A wheel holds the YAML files, and `bump train` works from it alone in an empty directory."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A freshly built wheel, unpacked."""
    directory = tmp_path_factory.mktemp("wheel")
    # by way of a source distribution, as an upload would
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(directory), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = directory.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(directory / "site")
    return directory / "site"


def bump(site: Path, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    code = "import sys; from induction_bump.cli.main import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        cwd=directory,
        env={**environment, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_holds_every_yaml_file_as_a_file(unpacked: Path) -> None:
    shipped = unpacked / "induction_bump/configs"
    for name in ("conf", "sweeps"):
        ours = {path.relative_to(ROOT / name) for path in (ROOT / name).rglob("*.yaml")}
        theirs = {path.relative_to(shipped / name) for path in (shipped / name).rglob("*.yaml")}
        assert ours == theirs
    assert not any(path.is_symlink() for path in unpacked.rglob("*"))


@pytest.mark.processes
def test_an_installed_wheel_composes_sweeps_and_trains_in_an_empty_directory(unpacked: Path, directory: Path) -> None:
    shown = bump(unpacked, directory, "train", "--cfg", "job", "experiment=quickstart")
    assert shown.returncode == 0, shown.stderr
    assert "study: quickstart" in shown.stdout
    assert list(directory.iterdir()) == []
    wrong = bump(unpacked, directory, "train", "-m", "+sweeps=quickstart", "model.n_heads=5")
    assert wrong.returncode == 2
    assert list(directory.iterdir()) == []
    done = bump(unpacked, directory, "train", "experiment=debug", "paths.cache=cache", "tracking=none")
    assert done.returncode == 0, done.stderr
    assert len(list(directory.glob("runs/debug/*/tables/scalars.parquet"))) == 1
    used = bump(unpacked, directory, "train", "--info", "searchpath").stdout + shown.stdout
    assert str(ROOT / "conf") not in used
