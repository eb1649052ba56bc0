"""What is refused before anything of a run is written."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from induction_bump.config.errors import ConfigError
from induction_bump.data.corpus import prepare
from induction_bump.launch.fit import check, forecast
from induction_bump.training.train import train
from tests.training.runs import begin, config_of

Usage = namedtuple("Usage", "total used free")


def size_of(directory: Path) -> int:
    return sum(p.stat().st_size for p in directory.rglob("*") if p.is_file())


def test_the_forecast_is_from_above_and_not_absurd(tmp_path: Path) -> None:
    config = config_of(
        tmp_path / "cache",
        model={"d_model": 128},
        snapshots={"measures": {"every": "1step"}},
        training={"length": "60step"},
    )
    run = begin(tmp_path / "run", config)
    train(config, run)
    needed, written = forecast(config, 64), size_of(run.path)
    assert written < needed < 3 * written + 10_000_000


def test_a_run_that_cannot_fit_is_refused_with_both_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tmp_path / "cache")
    corpus = prepare(config.data, tmp_path / "cache")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 5_000_000, 5_000_000))
    with pytest.raises(ConfigError, match=r"needs about 1\d MB and 5 MB are free"):
        check(config, corpus, tmp_path / "runs" / "study" / "run")
    assert not (tmp_path / "runs").exists()


def test_a_probe_that_cannot_be_drawn_is_a_mistake_in_the_config(tmp_path: Path) -> None:
    config = config_of(
        tmp_path / "cache",
        measures={"icl": {"early": 2, "late": 32, "window": 8}, "repeats": {"repeats": 4, "block": 8}},
    )
    corpus = prepare(config.data, tmp_path / "cache")
    with pytest.raises(ConfigError, match=r"measures.repeats: a context of 32, 4 repeats .* blocks of 7 tokens"):
        check(config, corpus, tmp_path)
