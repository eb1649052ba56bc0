"""`bump train` in this process, with stand-ins for what takes time."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from induction_bump.data import cores
from induction_bump.launch import cell
from induction_bump.launch.outcome import Outcome
from induction_bump.training.options import RunConfig


class StandInCells:
    """Instead of training: remembers the configs, and ends runs as `endings` says (by directory name's start)."""

    def __init__(self) -> None:
        self.configs: list[RunConfig] = []
        self.endings: dict[str, Outcome] = {}
        self.does: Callable[[RunConfig], object] = lambda config: None

    def __call__(self, config: RunConfig, environment: object = None, **how: object) -> Outcome:
        job = cell.plan(config)
        self.configs.append(config)
        self.does(config)
        name = Path(job.path).name
        known = next((o for start, o in self.endings.items() if name.startswith(start)), None)
        return replace(known or Outcome("", "", "finished"), run_id=job.run_id, path=job.path)


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> StandInCells:
    """Stands in for `launch.cell.run`."""
    stand_in = StandInCells()
    monkeypatch.setattr(cell, "run", stand_in)
    return stand_in


@pytest.fixture(autouse=True)
def _one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that would share the work among processes, each of which takes seconds to start, do it themselves."""
    monkeypatch.setattr(cores, "available_cores", lambda: 1)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    return empty
