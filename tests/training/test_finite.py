"""Nothing of a step whose numbers broke is written, and a checkpoint that broke is not gone on from."""

import hashlib
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from induction_bump.records.checkpoints import checkpoints, newest_intact
from induction_bump.records.directory import RunDirectory
from induction_bump.training.errors import LossNotFiniteError
from induction_bump.training.module import LanguageModel
from induction_bump.training.options import RunConfig
from induction_bump.training.train import train
from tests.records.same import assert_same_records
from tests.training.runs import begin, config_of

STEP = 5
SHORT = {"length": "8step", "batch_sequences": 8, "learning_rate": 0.01, "warmup": "2step"}
Break = Callable[[torch.Tensor], object]

AT_THE_STEP: dict[str, tuple[dict[str, Any], bool]] = {
    "a checkpoint": ({"checkpoints": {"every": "1step"}}, False),
    "a snapshot": ({"snapshots": {"measures": {"at": [f"{STEP}step"]}}}, False),
    "a snapshot of weights alone": ({"snapshots": {"weights": {"at": [f"{STEP}step"]}}}, False),
    "a stop": ({}, True),
    "nothing": ({}, False),
}
"""What is to be written of the step: changes of the config, and whether training is asked to stop."""


def breaking(monkeypatch: pytest.MonkeyPatch, how: Break, moment: str = "before") -> None:
    """Change the gradient of W_U of one step, `before` its norm is taken or `after`."""
    original = LanguageModel.configure_gradient_clipping

    def broken(self: LanguageModel, *arguments: Any, **options: Any) -> None:
        at = self.trainer.global_step == STEP - 1
        if at and moment == "before":
            how(self.model.W_U.grad)
        original(self, *arguments, **options)
        if at and moment == "after":
            how(self.model.W_U.grad)

    monkeypatch.setattr(LanguageModel, "configure_gradient_clipping", broken)


def attempt(run: RunDirectory, config: RunConfig, stops: bool = False) -> None:
    asked = iter(range(1, 1000))
    train(config, run, lambda: stops and next(asked) >= STEP)


@pytest.mark.parametrize(("changes", "stops"), AT_THE_STEP.values(), ids=AT_THE_STEP.keys())
@pytest.mark.parametrize(
    ("value", "clip", "told"),
    [(math.nan, 1.0, "nan"), (math.inf, 1.0, "inf"), (math.inf, None, "inf")],
    ids=["nan", "inf", "inf-unclipped"],
)
def test_nothing_of_a_step_with_a_broken_gradient_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    stops: bool,
    value: float,
    clip: float | None,
    told: str,
) -> None:
    config = config_of(tmp_path / "cache", **changes, training={**SHORT, "clip": clip})
    run = begin(tmp_path / "run", config)
    breaking(monkeypatch, lambda gradient: gradient[0, :1].fill_(value))
    message = f"^the gradient norm became {told} at step {STEP}; everything before it is kept$"
    with pytest.raises(LossNotFiniteError, match=message):
        attempt(run, config, stops)
    assert run.table("training").column("step").to_pylist() == list(range(1, STEP))
    assert max(snapshot.step for snapshot in run.snapshots()) < STEP
    assert newest_intact(run.path) == checkpoints(run.path)[-1]
    assert checkpoints(run.path)[-1].step < STEP


def test_moments_that_overflow_leave_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tmp_path / "cache", training={**SHORT, "clip": None}, checkpoints={"every": "1step"})
    run = begin(tmp_path / "run", config)
    breaking(monkeypatch, lambda gradient: gradient[0, :1].fill_(1e25), "after")
    with pytest.raises(LossNotFiniteError, match=f"^at step {STEP} exp_avg_sq of W_U is not finite; everything before"):
        attempt(run, config)
    assert newest_intact(run.path) == checkpoints(run.path)[-1]
    assert checkpoints(run.path)[-1].step == STEP - 1


def test_weights_that_nothing_measures_are_looked_at_before_they_are_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path / "cache", snapshots={"measures": {"at": []}, "weights": {"at": [f"{STEP}step"]}})
    run = begin(tmp_path / "run", config)
    breaking(monkeypatch, lambda gradient: gradient[0, :1].fill_(math.nan), "after")
    with pytest.raises(LossNotFiniteError, match=f"^at step {STEP} W_U is not finite; everything before it is kept$"):
        attempt(run, config)
    assert [snapshot.step for snapshot in run.snapshots()] == [0]
    assert all(t.isfinite().all() for t in load_file(run.snapshots()[0].path / "weights.safetensors").values())


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (lambda state: state["optimizer"]["state"][0]["exp_avg"], "optimizer.state.0.exp_avg"),
        (lambda state: state["optimizer"]["state"][1]["exp_avg_sq"], "optimizer.state.1.exp_avg_sq"),
        (lambda state: state["model"]["W_U"], "model.W_U"),
    ],
    ids=["first-moment", "second-moment", "weights"],
)
def test_a_checkpoint_that_is_not_finite_is_passed_over_for_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, entry: Callable[[Any], torch.Tensor], told: str
) -> None:
    config = config_of(tmp_path / "cache", checkpoints={"every": "1step"})
    run, expected = begin(tmp_path / "run", config), begin(tmp_path / "expected", config)
    train(config, expected)
    attempt(run, config, stops=True)
    before, last = checkpoints(run.path)
    state = torch.load(last.state, weights_only=True)
    entry(state).view(-1)[3] = math.nan
    torch.save(state, last.state)
    digest = hashlib.sha256(last.state.read_bytes()).hexdigest()
    (last.path / "sha256").write_text(f"{digest}  state.pt\n", encoding="ascii")
    with caplog.at_level(logging.WARNING, "induction_bump"):
        assert newest_intact(run.path) == before
    assert f"{last.path} is damaged ({told} is not finite); the one before it is used" in caplog.text
    run.rewind(before.step)
    train(config, run)
    assert_same_records(run, expected)
