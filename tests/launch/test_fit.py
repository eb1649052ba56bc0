"""What is refused before anything of a run is written."""

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from induction_bump.config.errors import ConfigError
from induction_bump.data.corpus import prepare
from induction_bump.launch import fit
from induction_bump.launch.cell import prepare_data
from induction_bump.launch.fit import check_memory, forecast, hashes, still_to_write
from induction_bump.records.directory import RunDirectory
from induction_bump.training.options import RunConfig
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


class TestMemory:
    """A step that surely does not fit is refused; what might fit is tried."""

    @pytest.fixture(autouse=True)
    def _machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gpu: int | None = None
        monkeypatch.setattr(fit, "_free_memory", lambda: 4 * 10**9)
        monkeypatch.setattr(fit, "_largest_gpu", lambda: self.gpu)

    @pytest.fixture
    def config(self, tmp_path: Path) -> RunConfig:
        return config_of(tmp_path / "cache", devices={"accelerator": "auto"})

    def test_a_vocabulary_too_large_is_refused_with_both_sizes_before_it_is_drawn(self, tmp_path: Path) -> None:
        config = config_of(
            tmp_path / "cache", data={"corpus": {"name": "repeats", "vocab_size": 100_000_000, "copy_share": 0.0}}
        )
        with pytest.raises(
            ConfigError, match=r"d_model=\d+, 100000000 tokens of vocabulary: about [\d,]+ MB .* 4,000 MB"
        ):
            prepare_data([config])
        assert not (tmp_path / "cache").exists()

    def test_what_a_cluster_runs_is_not_held_against_the_machine_that_submits_it(
        self, config: RunConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fit, "_free_memory", lambda: 1)
        prepare_data([config], here=False)
        with pytest.raises(ConfigError, match="MB of memory are needed"):
            prepare_data([config])

    def test_weights_gradients_moments_and_logits_count(self, config: RunConfig) -> None:
        width = config.model.d_model
        step = config.training.batch_sequences * config.data.context
        most = 4 * 10**9 / (4 * (4 * 2 * width + 2 * step))  # tokens, were there nothing but ends and logits
        check_memory(config, int(0.9 * most))
        with pytest.raises(ConfigError, match="MB of memory are needed"):
            check_memory(config, int(1.1 * most))

    def test_processes_on_a_cpu_share_it_and_gpus_have_each_their_own(self, config: RunConfig) -> None:
        tokens = 5 * 10**9 // 2 // (4 * (4 * 2 * config.model.d_model + 2 * config.data.context))
        several = replace(config, devices=replace(config.devices, count=2, sequences_per_device=1))
        alone = replace(config, devices=replace(config.devices, sequences_per_device=1))
        check_memory(alone, tokens)
        with pytest.raises(ConfigError, match="MB of memory are needed"):
            check_memory(several, tokens)
        self.gpu = 4 * 10**9
        check_memory(several, tokens)
        self.gpu = 10**9
        with pytest.raises(ConfigError, match="and 1,000 MB are there"):
            check_memory(several, tokens)


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
