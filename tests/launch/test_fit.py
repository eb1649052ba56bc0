"""What is refused before anything of a run is written."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from induction_bump.config.errors import ConfigError
from induction_bump.data.corpus import prepare
from induction_bump.launch.cell import prepare_data
from induction_bump.launch.fit import forecast, hashes, still_to_write
from induction_bump.records.directory import RunDirectory
from induction_bump.training.train import train
from tests.training.runs import begin, config_of

Usage = namedtuple("Usage", "total used free")


def size_of(directory: Path) -> int:
    return sum(p.stat().st_size for p in directory.rglob("*") if p.is_file())


def test_the_forecast_is_from_above_and_not_absurd(tmp_path: Path) -> None:
    config = config_of(
        tmp_path / "cache",
        model={"d_model": 128},
        snapshots={"measures": {"every": "10step"}},
        training={"length": "60step"},
    )
    run = begin(tmp_path / "run", config)
    train(config, run)
    needed, written = forecast(config, 64), size_of(run.path)
    assert written < needed < 3 * written + 10_000_000


def test_runs_that_fit_alone_and_not_together_are_refused_with_both_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path / "cache")
    alone = forecast(config, 64)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 2 * alone, 2 * alone))
    prepare_data([config, config])
    with pytest.raises(ConfigError, match=r"about 3\d MB will be written and 2\d MB are free"):
        prepare_data([config, config, config])
    assert not (tmp_path / "runs").exists()


def test_what_a_run_has_written_needs_no_more_room(tmp_path: Path) -> None:
    config = config_of(tmp_path / "cache")
    run = begin(tmp_path / "run", config)
    assert still_to_write(RunDirectory(tmp_path / "none"), 1000) == 1000
    (run.path / "snapshots/00000000").mkdir(parents=True)
    (run.path / "snapshots/00000000/weights.safetensors").write_bytes(bytes(600_000))
    assert 1_000_000 - 620_000 < still_to_write(run, 1_000_000) < 1_000_000 - 600_000
    assert still_to_write(run, 1000) == 0


def test_a_probe_that_cannot_be_drawn_is_a_mistake_in_the_config(tmp_path: Path) -> None:
    measures = {"icl": {"early": 2, "late": 32, "window": 8}, "repeats": {"repeats": 4, "block": 8}}
    config = config_of(tmp_path / "cache", measures=measures)
    with pytest.raises(ConfigError, match=r"measures.repeats: a context of 32, 4 repeats .* blocks of 7 tokens"):
        hashes(config, prepare(config.data, tmp_path / "cache"))


def test_the_hashes_are_those_that_training_writes_down(tmp_path: Path) -> None:
    config = config_of(tmp_path / "cache")
    run = begin(tmp_path / "run", config)
    train(config, run)
    assert hashes(config, prepare(config.data, tmp_path / "cache")) == run.info.hashes
