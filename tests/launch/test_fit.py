"""What is refused before anything of a run is written."""

import os
import shutil
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
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


class TestFreeMemory:
    """What a container's group still gives, which is more than what it does not hold yet."""

    @pytest.fixture(autouse=True)
    def group(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A container of 8 GiB, on a machine of 64, that has read files until its memory was full of them."""
        machine = SimpleNamespace(available=64 * 2**30)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
        monkeypatch.setattr(fit, "_GROUP", tmp_path)
        (tmp_path / "memory.max").write_text(f"{8 * 2**30}\n", encoding="utf-8")
        (tmp_path / "memory.current").write_text(f"{8 * 2**30 - 20_000_000}\n", encoding="utf-8")
        self.stat(tmp_path, inactive_file=5_000_000_000, active_file=2_900_000_000)
        return tmp_path

    def stat(self, group: Path, **held: int) -> None:
        lines = {"anon": 400_000_000, "file": 7_950_000_000, "shmem": 50_000_000, **held}
        (group / "memory.stat").write_text("".join(f"{k} {v}\n" for k, v in lines.items()), encoding="utf-8")

    def test_cached_files_are_free_for_who_needs_their_memory_and_shared_memory_is_not(self) -> None:
        assert fit._free_memory() == 20_000_000 + 7_900_000_000

    def test_what_processes_hold_is_not_free(self, group: Path) -> None:
        self.stat(group, anon=7_900_000_000, inactive_file=0, active_file=0)
        assert fit._free_memory() == 20_000_000

    @pytest.mark.parametrize("file", ["memory.max", "memory.current", "memory.stat"])
    def test_where_the_group_does_not_tell_the_machine_counts(self, group: Path, file: str) -> None:
        (group / file).unlink()
        assert fit._free_memory() == 64 * 2**30

    @pytest.mark.parametrize(
        ("file", "text"), [("memory.max", "max"), ("memory.stat", "anon 3\n"), ("memory.stat", "?")]
    )
    def test_a_group_without_a_limit_or_of_another_layout_limits_nothing(
        self, group: Path, file: str, text: str
    ) -> None:
        (group / file).write_text(text, encoding="utf-8")
        assert fit._free_memory() == 64 * 2**30


class TestGpus:
    """They are asked for once a process, and count as far as processes may use them."""

    @pytest.fixture(autouse=True)
    def _machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two GPUs, each question to which is a line in `asked`."""
        self.asked = tmp_path / "asked"
        smi = tmp_path / "nvidia-smi"
        smi.write_text(f"#!/bin/sh\necho asked >> {self.asked}\necho 1000\necho 3000\n", encoding="utf-8")
        smi.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        fit._gpus.cache_clear()
        monkeypatch.setattr(fit, "_ON_EVERY_GPU", 0)

    @pytest.fixture(autouse=True)
    def _asked_anew(self) -> Iterator[None]:
        yield
        fit._gpus.cache_clear()

    def test_a_sweep_asks_once(self, tmp_path: Path) -> None:
        config = config_of(tmp_path / "cache", devices={"accelerator": "auto"})
        prepare_data([config, config, config])
        assert self.asked.read_text(encoding="utf-8") == "asked\n"

    @pytest.mark.parametrize(
        ("visible", "largest"),
        [(None, 3000), ("0,1", 3000), ("GPU-8932f937", 3000), ("", None), ("-1", None), ("none", None), ("2", None)],
    )
    def test_without_one_that_is_visible_there_is_none(
        self, monkeypatch: pytest.MonkeyPatch, visible: str | None, largest: int | None
    ) -> None:
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert fit._largest_gpu() == (largest and largest * 2**20)

    def test_where_none_is_visible_the_memory_of_the_cpu_counts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fit, "_free_memory", lambda: 1)
        config = config_of(tmp_path / "cache", devices={"accelerator": "auto"})
        check_memory(config, 64)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        with pytest.raises(ConfigError, match="MB of memory are needed"):
            check_memory(config, 64)


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
