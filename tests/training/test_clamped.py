"""Training under clamps: what is trained is the clamped model, however it is computed."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from induction_bump.model.transformer import Site, Tap
from induction_bump.records.load import load
from induction_bump.training.options import RunConfig
from induction_bump.training.train import train
from tests.training.runs import BASE, begin, config_of
from tests.training.test_train import plain_losses

STRENGTH = 30.0
CLAMPS = [
    {"layer": 0, "head": 0, "kind": "previous", "strength": STRENGTH},
    {"layer": 1, "head": 1, "kind": "zero"},
]


def clamped(cache: Path, **training: Any) -> RunConfig:
    return config_of(cache, model={**BASE["model"], "clamps": CLAMPS}, training=training)


def by_hand(cache: Path) -> list[float]:
    """The losses of a model without clamps whose scores and mixed values are changed from outside."""

    def at(site: Site, tensor: Tensor) -> Tensor:
        changed = tensor.clone()
        if site.name == "scores" and site.layer == 0:
            changed[:, 0].diagonal(-1, -2, -1).add_(STRENGTH)
        if site.name == "z" and site.layer == 1:
            changed[:, :, 1] = 0
        return changed

    return plain_losses(config_of(cache), Tap(frozenset({"scores", "z"}), at))


TRACED, COMPILED = "aot_eager", "inductor"
"""What `torch.compile` makes of the model's code: operations of torch, or C++, whose compiler takes a minute."""


@pytest.mark.parametrize(
    ("training", "tolerance", "backend"),
    [
        pytest.param({}, 1e-5, None, id="plain"),
        pytest.param({"compile": True}, 1e-5, TRACED, id="traced"),
        pytest.param({"compile": True}, 1e-4, COMPILED, id="compiled", marks=pytest.mark.slow),
        pytest.param({"precision": "bf16"}, 0.05, None, id="bf16"),
    ],
)
def test_losses_are_those_of_a_model_that_is_changed_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training: dict[str, Any], tolerance: float, backend: str | None
) -> None:
    if backend:
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    config = clamped(tmp_path / "cache", **training)
    run = begin(tmp_path / "run", config)
    train(config, run)
    found = load(run.path).training.loss.to_numpy()
    np.testing.assert_allclose(found, by_hand(tmp_path / "cache"), atol=tolerance)
    free = plain_losses(config_of(tmp_path / "cache"))
    assert np.abs(found - free).max() > 2 * tolerance
    for snapshot in run.snapshots():
        rows = load(run.path).read("heads", steps=[snapshot.step], measure="previous_token")
        score = {(row.layer, row.head): row.value for row in rows.itertuples()}
        assert score[0, 0] > 0.99 > 0.5 > score[0, 1]


def test_a_head_held_at_zero_only_decays(tmp_path: Path) -> None:
    """Without a gradient AdamW multiplies a weight by 1 − learning rate · weight decay."""
    config = clamped(tmp_path / "cache", weight_decay=0.3)
    run = begin(tmp_path / "run", config)
    train(config, run)
    first, last = (load_file(run.snapshots()[n].path / "weights.safetensors") for n in (0, -1))
    rates = load(run.path).training.learning_rate.to_numpy()
    shrunk = float(np.prod(1 - rates * config.training.weight_decay))
    for name in ("W_Q", "W_K", "W_V", "W_O"):
        before, after = (weights[f"sublayers.1.{name}"] for weights in (first, last))
        before, after = (w if name == "W_O" else w.transpose(0, 1) for w in (before, after))
        torch.testing.assert_close(after[1], shrunk * before[1], rtol=1e-5, atol=1e-8)
        assert (after[0] - shrunk * before[0]).abs().max() > 1e-3
    heads = load(run.path).read("heads", measure="copying_eigenvalue")
    assert set(zip(heads["layer"], heads["head"], strict=True)) == {(0, 0), (0, 1), (1, 0)}
