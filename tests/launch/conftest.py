"""A training that takes no time, in place of the real one."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from induction_bump.config.compose import compose
from induction_bump.config.resolve import dump, load
from induction_bump.launch import accompanied, stop
from induction_bump.records.directory import RunDirectory
from induction_bump.training.options import RunConfig

TINY = ["experiment=debug", "tracking=none", "report=off", "devices=cpu"]


class StandInTraining:
    """Counts its calls, and does `does` in each."""

    def __init__(self) -> None:
        self.calls: list[RunConfig] = []
        self.does: Callable[[RunDirectory], object] = lambda run: None

    def __call__(self, config: RunConfig, run: RunDirectory, stop_requested: Callable[[], bool], cluster: str) -> Any:
        self.calls.append(config)
        self.does(run)
        return SimpleNamespace(stopped=stop_requested())


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> StandInTraining:
    """Stands in for `training.train.train`, and so for torch."""
    stand_in = StandInTraining()
    module = ModuleType("induction_bump.training.train")
    module.__dict__["train"] = stand_in
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return stand_in


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """A tiny run below `tmp_path`."""
    return compose([*TINY, f"paths.runs={tmp_path}/runs", f"paths.cache={tmp_path}/cache"])


def changed(config: RunConfig, **parts: dict[str, Any]) -> RunConfig:
    """The config with some keys of some of its parts changed."""
    values = dump(config)
    for key, part in parts.items():
        values[key] |= part
    return load(values)


@pytest.fixture(autouse=True)
def _no_stop_left_over(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable in (stop.DIRECTORY, stop.SWEEP):
        monkeypatch.delenv(variable, raising=False)
    yield
    stop._requested.clear()
    stop._left_to_another.clear()


@pytest.fixture
def no_companion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start none."""
    monkeypatch.setattr(accompanied, "start", lambda path: None)
