"""A training run, from its config to its records."""

import errno
import math
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn.parallel import DistributedDataParallel

from induction_bump.data.corpus import prepare
from induction_bump.measures.take import Measured, take
from induction_bump.model.init import decayed
from induction_bump.model.transformer import Tap, Transformer, next_token_losses
from induction_bump.records.load import load
from induction_bump.training.errors import LossNotFiniteError
from induction_bump.training.module import LanguageModel, learning_rate_factor
from induction_bump.training.options import RunConfig, TrainingOptions
from induction_bump.training.schedule import Duration
from induction_bump.training.train import make_trainer, train
from induction_bump.training.weights import load_weights
from tests.training.runs import begin, config_of


def plain_losses(config: RunConfig, tap: Tap | None = None) -> list[float]:
    """The same training as a plain PyTorch loop; `tap` may change what the model computes."""
    corpus = prepare(config.data, Path(config.paths.cache))
    model = Transformer(config.model, corpus.vocab_size, config.data.context, config.seed.init)
    o, B = config.training, config.training.batch_sequences
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if decayed(n, p)], "weight_decay": o.weight_decay},
        {"params": [p for n, p in named if not decayed(n, p)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], betas=o.betas, eps=o.epsilon, fused=True)
    losses = []
    for step in range(config.total_steps):
        windows = torch.from_numpy(corpus.windows(np.arange(step * B, (step + 1) * B), config.seed.data))
        logits = model(windows[:, :-1], *([tap] if tap else []))
        loss = next_token_losses(logits, windows[:, 1:]).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), o.clip or math.inf)
        for group in optimizer.param_groups:
            group["lr"] = o.learning_rate * min(1.0, (step + 1) / o.warmup.value)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_it_computes_what_a_plain_loop_computes(tmp_path: Path) -> None:
    config = config_of(tmp_path / "cache")
    run = begin(tmp_path / "run", config)
    train(config, run)
    table = load(run.path).training
    assert table.step.tolist() == list(range(1, 9))
    assert table.loss.tolist() == plain_losses(config)


def test_ranks_do_not_send_each_other_buffers(tmp_path: Path) -> None:
    strategy = make_trainer(config_of(tmp_path, devices={"count": 2}), []).strategy
    assert isinstance(strategy, DDPStrategy)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(torch.nn.BatchNorm1d(2), **strategy._ddp_kwargs)
        assert not wrapped.broadcast_buffers
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("positions", ["rotary", "shortformer", "learned", "none"])
def test_training_never_changes_a_buffer(tmp_path: Path, positions: str) -> None:
    clamps = [{"layer": 1, "head": 0, "kind": "previous"}]
    config = config_of(tmp_path, model={"positions": positions, "clamps": clamps})
    model = Transformer(config.model, 64, config.data.context, seed=0)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert before
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        model(torch.randint(64, (2, config.data.context))).sum().backward()
        optimizer.step()
    after = dict(model.named_buffers())
    assert after.keys() == before.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


class TestSnapshots:
    """Moments, contents, and what they leave alone."""

    def test_step_0_is_before_any_update_and_the_last_step_is_there(self, tmp_path: Path) -> None:
        config = config_of(tmp_path / "cache")
        run = begin(tmp_path / "run", config)
        trained = train(config, run)
        assert [s.step for s in run.snapshots()] == [0, 3, 8]
        first, last = (load_file(run.snapshots()[i].path / "weights.safetensors") for i in (0, -1))
        fresh = Transformer(config.model, 64, 32, config.seed.init)
        assert all(torch.equal(first[name], p) for name, p in fresh.named_parameters())
        assert all(torch.equal(last[name], p) for name, p in trained.module.model.named_parameters())

    def test_saved_weights_give_the_recorded_measures_again(self, tmp_path: Path) -> None:
        config = config_of(tmp_path / "cache")
        run = begin(tmp_path / "run", config)
        trained = train(config, run)
        model = Transformer(config.model, 64, 32, seed=99)
        load_weights(model, run.snapshots()[1].path / "weights.safetensors")
        again = take(model, trained.probes, config.measures)
        recorded = load(run.path).read("scalars", steps=[3]).set_index("name").value
        for name, (value, _) in again.scalars.items():
            assert recorded[name] == value

    def test_they_do_not_change_the_training(self, tmp_path: Path) -> None:
        losses = []
        for number, at in enumerate((["3step"], [f"{s}step" for s in range(1, 8)])):
            config = config_of(tmp_path / "cache", snapshots={"measures": {"at": at}})
            run = begin(tmp_path / str(number), config)
            train(config, run)
            losses.append(load(run.path).training.loss.tolist())
        assert losses[0] == losses[1]

    def test_weights_have_a_schedule_of_their_own(self, tmp_path: Path) -> None:
        snapshots = {"measures": {"at": ["3step"]}, "weights": {"at": ["5step"]}}
        config = config_of(tmp_path / "cache", snapshots=snapshots)
        run = begin(tmp_path / "run", config)
        train(config, run)
        there = {s.step: {p.name for p in s.path.iterdir()} for s in run.snapshots()}
        assert [step for step, names in there.items() if "weights.safetensors" in names] == [0, 5, 8]
        assert [step for step, names in there.items() if "scalars.parquet" in names] == [0, 3, 8]

    def test_the_null_of_head_scores_is_recorded_with_step_0(self, tmp_path: Path) -> None:
        config = config_of(tmp_path / "cache")
        run = begin(tmp_path / "run", config)
        train(config, run)
        nulls = load(run.path).scalars.query("name.str.startswith('null99/')")
        assert set(nulls.name) == {"null99/prefix_matching", "null99/previous_token"}
        assert set(nulls.step) == {0}

    def test_run_json_tells_what_was_measured_on(self, tmp_path: Path) -> None:
        config = config_of(tmp_path / "cache")
        run = begin(tmp_path / "run", config)
        trained = train(config, run)
        info = run.info
        assert info.hashes["held_out"] == trained.probes.held_out.hash
        assert info.parameters == sum(p.numel() for p in trained.module.model.parameters())
        assert info.probes["held_out"]["examples"] == 8
        assert info.seconds["training"] > 0


@pytest.mark.parametrize("changes", [{"sequences_per_device": 4}, {"sequences_per_device": 3}])
def test_accumulation_trains_on_the_same_batch(tmp_path: Path, changes: dict[str, int]) -> None:
    whole, parts = (
        config_of(tmp_path / "cache", devices=d) for d in ({"accelerator": "cpu"}, {"accelerator": "cpu", **changes})
    )
    tables = []
    for name, config in (("whole", whole), ("parts", parts)):
        run = begin(tmp_path / name, config)
        train(config, run)
        tables.append(load(run.path).training)
        assert [s.step for s in run.snapshots()] == [0, 3, 8]
    assert tables[1].step.tolist() == tables[0].step.tolist()
    np.testing.assert_allclose(tables[1].loss, tables[0].loss, atol=1e-5)
    np.testing.assert_allclose(tables[1].grad_norm, tables[0].grad_norm, rtol=1e-3)


def test_bf16_trains_and_measures_in_float32(tmp_path: Path) -> None:
    config = config_of(tmp_path / "cache", training={"precision": "bf16"})
    run = begin(tmp_path / "run", config)
    trained = train(config, run)
    assert {p.dtype for p in trained.module.model.parameters()} == {torch.float32}
    table = load(run.path).training
    exact = plain_losses(config)
    assert table.loss.tolist() != exact
    np.testing.assert_allclose(table.loss, exact, atol=0.05)
    recorded = load(run.path).read("scalars", steps=[8], name="loss").value.item()
    assert recorded == take(trained.module.model, trained.probes, config.measures).scalars["loss"][0]


def test_a_compiled_training_keeps_the_plain_modules_names(tmp_path: Path) -> None:
    config = config_of(tmp_path / "cache", model={"sublayers": "s"}, training={"compile": True})
    run = begin(tmp_path / "run", config)
    train(config, run)
    np.testing.assert_allclose(load(run.path).training.loss, plain_losses(config), atol=1e-4)
    saved = load_file(run.snapshots()[-1].path / "weights.safetensors")
    assert set(saved) == {name for name, _ in Transformer(config.model, 64, 32).named_parameters()}


def test_weights_that_break_are_noticed_at_the_snapshot_naming_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path / "cache")
    run = begin(tmp_path / "run", config)
    original = LanguageModel.configure_gradient_clipping

    def break_weights(self: LanguageModel, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        if self.trainer.global_step == 2:  # the update that makes step 3
            self.model.W_U.grad.fill_(math.nan)

    monkeypatch.setattr(LanguageModel, "configure_gradient_clipping", break_weights)
    with pytest.raises(LossNotFiniteError, match="at step 3 the model's losses are not finite; everything before"):
        train(config, run)
    assert [s.step for s in run.snapshots()] == [0]
    assert run.table("training").column("step").to_pylist() == [1, 2, 3]


def test_heads_that_weights_leave_without_a_value_are_noted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where W_V and W_O of a head are both 0, their gradients are too."""

    def with_an_idle_head(*arguments: Any) -> Transformer:
        model = Transformer(*arguments)
        first = next(model.attention_sublayers())
        with torch.no_grad():
            first.W_V[:, 1] = first.W_O[1] = 0
        return model

    monkeypatch.setattr("induction_bump.training.train.Transformer", with_an_idle_head)
    run = begin(tmp_path / "run", config_of(tmp_path / "cache"))
    train(config_of(tmp_path / "cache"), run)
    heads = load(run.path).read("heads", measure="copying_eigenvalue")
    assert set(heads.step) == {0, 3, 8}
    assert (0, 1) not in set(zip(heads["layer"], heads["head"], strict=True))
    told = [f"copying_eigenvalue{form} of L0H1: all eigenvalues are 0" for form in ("", "_raw")]
    assert run.info.not_applicable["copying_eigenvalue"] == "; ".join(told)
    assert run.info.not_applicable["smear"] == "keys are not smeared"


def test_the_step_of_a_broken_loss_is_the_first_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tmp_path / "cache")
    run = begin(tmp_path / "run", config)
    original, calls = LanguageModel.training_step, iter(range(100))
    monkeypatch.setattr(
        LanguageModel,
        "training_step",
        lambda self, batch, batch_idx: original(self, batch, batch_idx) * (math.nan if next(calls) == 4 else 1.0),
    )
    with pytest.raises(LossNotFiniteError, match="the loss became nan at step 5; everything before it is kept"):
        train(config, run)
    assert run.table("training").column("step").to_pylist() == [1, 2, 3, 4]
    assert [s.step for s in run.snapshots()] == [0, 3]


def test_a_stop_request_is_heard_at_the_next_step(tmp_path: Path) -> None:
    config = config_of(tmp_path / "cache")
    run = begin(tmp_path / "run", config)
    asked = iter([False, False, False, True])
    trained = train(config, run, lambda: next(asked))
    assert trained.stopped
    assert run.table("training").column("step").to_pylist() == [1, 2, 3, 4]
    assert not (run.path / "tables").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_goes_to_who_had_it_before(tmp_path: Path, number: signal.Signals) -> None:
    """Lightning would take SIGTERM and raise SIGTERMException."""
    config = config_of(tmp_path / "cache")
    run = begin(tmp_path / "run", config)
    heard: list[int] = []
    before = signal.signal(number, lambda n, frame: heard.append(n))
    try:
        trained = train(config, run, lambda: os.kill(os.getpid(), number) or bool(heard))
    finally:
        signal.signal(number, before)
    assert trained.stopped
    assert heard[0] == number


def test_a_single_process_inside_a_slurm_allocation_is_a_single_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "batch", "SLURM_JOB_ID": "1"}.items():
        monkeypatch.setenv(name, value)
    config = config_of(tmp_path / "cache")
    run = begin(tmp_path / "run", config)
    assert train(config, run).trainer.world_size == 1


def test_a_machine_with_slurm_is_no_reason_to_warn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    config = config_of(tmp_path / "cache")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # whatever the tests' own filters let pass
        train(config, begin(tmp_path / "run", config))


def test_measures_are_float32_where_training_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tmp_path / "cache", training={"tf32": True, "precision": "bf16"})
    run = begin(tmp_path / "run", config)
    seen: list[tuple[str, bool]] = []

    def spy(*arguments: Any) -> Measured:
        seen.append((torch.get_float32_matmul_precision(), torch.is_autocast_enabled("cpu")))
        return take(*arguments)

    monkeypatch.setattr("induction_bump.training.snapshot.take", spy)
    try:
        train(config, run)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen) == {("highest", False)}


def test_a_disk_that_is_full_of_weights_is_named_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tmp_path / "cache")
    run = begin(tmp_path / "run", config)
    calls = iter(range(9))

    def full(tensors: Any, path: Path) -> None:
        if next(calls):
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        save_file(tensors, path)

    monkeypatch.setattr("induction_bump.training.weights.save_file", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        train(config, run)
    assert caught.value.errno == errno.ENOSPC
    assert [s.step for s in run.snapshots()] == [0]
    assert [p.name for p in (run.path / "snapshots").iterdir()] == ["00000000"]


class TestLearningRate:
    """Warm-up, then constant, linear or cosine."""

    @staticmethod
    def factors(decay: str, final_share: float = 0.1) -> list[float]:
        options = TrainingOptions(decay=decay, final_share=final_share, warmup=Duration(4, "step"))
        return [learning_rate_factor(step, options, 4, 12) for step in range(13)]

    @pytest.mark.parametrize("decay", ["constant", "linear", "cosine"])
    def test_the_first_update_already_moves_and_the_peak_is_reached(self, decay: str) -> None:
        assert self.factors(decay)[:4] == [0.25, 0.5, 0.75, 1.0]
        assert self.factors(decay)[4] == 1.0

    def test_what_follows(self) -> None:
        assert set(self.factors("constant")[4:]) == {1.0}
        assert self.factors("linear")[8] == pytest.approx(0.55)
        assert self.factors("cosine")[8] == pytest.approx(0.55)
        assert self.factors("cosine")[6] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
        assert self.factors("linear")[12] == self.factors("cosine")[12] == pytest.approx(0.1)

    def test_the_table_holds_the_rate_that_each_step_used(self, tmp_path: Path) -> None:
        config = config_of(tmp_path / "cache", training={"decay": "linear"})
        run = begin(tmp_path / "run", config)
        train(config, run)
        expected = [0.01 * learning_rate_factor(step, config.training, 2, 8) for step in range(8)]
        np.testing.assert_allclose(load(run.path).training.learning_rate, expected)
