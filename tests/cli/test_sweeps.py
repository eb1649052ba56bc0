"""A sweep that is called again: what is finished is passed over, and nothing is composed twice."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from induction_bump.cli.main import main
from induction_bump.launch import cell, facts, stop
from induction_bump.launch.outcome import Outcome
from induction_bump.records.directory import RunDirectory
from induction_bump.training.options import RunConfig
from tests.cli.conftest import StandInCells


def train(arguments: str) -> int:
    return main(["train", *shlex.split(f"-m {arguments} experiment=debug tracking=none paths.cache=cache")])


def finish(config: RunConfig) -> None:
    """Leave a finished run, as far as launchers look at it."""
    job = cell.plan(config)
    info = facts.first_info(job, 1).model_copy(update={"status": "finished", "finished_at": facts.timestamp()})
    RunDirectory(job.path).begin(job.config, info)


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The overrides of every cell that Hydra composed."""
    seen: list[list[str]] = []
    compose = ConfigLoaderImpl.load_sweep_config

    def load(self: ConfigLoaderImpl, master: object, overrides: list[str]) -> object:
        seen.append(overrides)
        return compose(self, master, overrides)  # type: ignore[arg-type]

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", load)
    return seen


@pytest.fixture(autouse=True)
def _no_stop_left_over() -> Iterator[None]:
    yield
    stop._requested.clear()


def test_finished_cells_are_neither_composed_nor_started_again(
    cells: StandInCells, composed: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    cells.does = lambda config: finish(config) if config.seed.init < 2 else None
    assert train("seed.init=0,1,2") == 0
    assert len(composed) == 3
    del composed[:], cells.configs[:]
    capsys.readouterr()
    assert train("seed.init=0,1,2") == 0
    assert len(composed) == 1  # which tells the study
    assert [config.seed.init for config in cells.configs] == [2]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        *("study", "skipped", "skipped", "finished")
    ]


def test_many_skipped_runs_are_one_line(cells: StandInCells, capsys: pytest.CaptureFixture[str]) -> None:
    cells.does = finish
    assert train("seed.init=range(11)") == 0
    capsys.readouterr()
    assert train("seed.init=range(11)") == 0
    _, line = capsys.readouterr().out.splitlines()
    assert line == "  skipped  11 runs that were finished before"
    assert len(cells.configs) == 11


def test_a_changed_file_is_composed_anew(cells: StandInCells, composed: list[list[str]], directory: Path) -> None:
    own = directory / "own/model/mine.yaml"
    own.parent.mkdir(parents=True)
    for width in (32, 64):
        own.write_text(f"defaults: [two_layers, _self_]\nd_model: {width}\n", encoding="utf-8")
        assert train("--config-dir own model=mine seed.init=0,1") == 0
    assert [config.model.d_model for config in cells.configs] == [32, 32, 64, 64]
    assert len(composed) == 4


def test_a_cell_runs_as_it_was_checked_whatever_becomes_of_its_files(cells: StandInCells, directory: Path) -> None:
    own = directory / "own/model/mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("defaults: [two_layers, _self_]\nd_model: 32\n", encoding="utf-8")
    cells.does = lambda config: own.write_text("d_model: [", encoding="utf-8")
    assert train("--config-dir own model=mine seed.init=0,1") == 0
    assert [config.model.d_model for config in cells.configs] == [32, 32]


def test_a_remembered_run_that_was_removed_is_trained_again(cells: StandInCells, directory: Path) -> None:
    cells.does = finish
    assert train("seed.init=0,1") == 0
    (removed,) = directory.glob("runs/debug/*-s1-*")
    for file in removed.iterdir():
        file.unlink()
    del cells.configs[:]
    assert train("seed.init=0,1") == 0
    assert [config.seed.init for config in cells.configs] == [1]


def test_a_directory_that_now_holds_another_run_is_refused_though_the_cells_are_remembered(
    cells: StandInCells, directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cells.does = finish
    assert train("seed.init=0,1") == 0
    (edited,) = directory.glob("runs/debug/*-s1-*/config.yaml")
    edited.write_text(edited.read_text(encoding="utf-8").replace("n_heads: 4", "n_heads: 2"), encoding="utf-8")
    capfd.readouterr()
    assert train("seed.init=0,1") == 2
    assert "belongs to another config" in capfd.readouterr().err


class TestBusyCells:
    """Another launcher trains them."""

    def test_are_passed_over_and_looked_at_again_at_the_end(self, cells: StandInCells) -> None:
        waits: list[tuple[int, object]] = []
        run = cells.__class__.__call__

        def busy_at_first(self: StandInCells, config: RunConfig, environment: object = None, **how: object) -> Outcome:
            waits.append((config.seed.init, how["wait"]))
            outcome = run(self, config)
            first = config.seed.init == 0 and how["wait"] == 0
            return Outcome(outcome.run_id, outcome.path, "busy", "written by another") if first else outcome

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(StandInCells, "__call__", busy_at_first)
            assert train("seed.init=0,1") == 0
        assert waits == [(0, 0), (1, 0), (0, None)]

    def test_that_stay_busy_are_told_at_the_end(self, cells: StandInCells, capfd: pytest.CaptureFixture[str]) -> None:
        cells.endings["2L-attn-rotary-d64-h4-s0"] = Outcome("", "", "busy", "written by process 7 on here")
        assert train("seed.init=0,1") == 1
        said = capfd.readouterr()
        assert [line.split()[0] for line in said.out.splitlines()] == ["study", "busy", "finished"]
        assert "written by process 7 on here" in said.err

    def test_are_not_looked_at_again_after_a_stop(self, cells: StandInCells) -> None:
        cells.endings["2L-attn-rotary-d64-h4-s0"] = Outcome("", "", "busy", "written by another")
        cells.does = lambda config: stop.request()
        train("seed.init=0,1")
        assert [config.seed.init for config in cells.configs] == [0, 1]
