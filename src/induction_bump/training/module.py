"""The LightningModule: next-token loss, AdamW with decay only on matrices, and the learning-rate schedule."""

import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int
from lightning_fabric.utilities.apply_func import move_data_to_device
from torch import Tensor, nn

from induction_bump.model.init import decayed
from induction_bump.model.transformer import Transformer, next_token_losses
from induction_bump.training.options import RunConfig, TrainingOptions

Windows = Int[Tensor, "B T+1"]


def mean_loss(model: Transformer, windows: Windows) -> Float[Tensor, ""]:
    """Mean loss over all positions of a batch of windows t_0 … t_T, in nats."""
    return next_token_losses(model(windows[:, :-1]), windows[:, 1:]).mean()


def learning_rate_factor(step: int, options: TrainingOptions, warmup: int, total: int) -> float:
    """Share of the peak learning rate that update number `step` (from 0) takes.

    Linear warm-up over `warmup` updates, then constant, or linear or cosine decay to `final_share` at `total`.
    """
    if step < warmup:
        return (step + 1) / warmup
    if options.decay == "constant":
        return 1.0
    done = (step - warmup) / max(1, total - warmup)
    left = 1 - done if options.decay == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return options.final_share + (1 - options.final_share) * left


class LanguageModel(pl.LightningModule):
    """Trains `model`, which stays the plain module that measures read and snapshots save."""

    def __init__(self, config: RunConfig, model: Transformer) -> None:
        super().__init__()
        self.options = config.training
        self.warmup_steps = config.training.warmup.steps(config.tokens_per_step)
        self.total_steps = config.total_steps
        self.model = model
        # the function is compiled, not the module: state_dict keeps its keys, and taps are never traced away
        self._mean_loss: Callable[[Transformer, Windows], Tensor] = (
            torch.compile(mean_loss) if config.training.compile else mean_loss
        )
        self._resumed: dict[str, Any] | None = None
        self.gradient_norm: Tensor = torch.zeros(())
        """Norm of the last optimiser step's gradient, before clipping."""
        self.rate_of_last_update = 0.0
        """Learning rate of the last optimiser step; the schedule has moved on by the time it can be asked."""

    def training_step(self, batch: Windows, batch_idx: int) -> Tensor:
        """Loss of one forward pass."""
        return self._mean_loss(self.model, batch)

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip to `training.clip` and remember the norm; called once an optimiser step."""
        limit = self.options.clip or math.inf
        self.gradient_norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self.rate_of_last_update = optimizer.param_groups[0]["lr"]

    def state_after(self, step: int) -> dict[str, Any]:
        """What this training is after optimiser step `step`, on the CPU, in plain containers."""
        optimizer, schedule = self.optimizers(use_pl_optimizer=False), self.lr_schedulers()
        assert isinstance(optimizer, torch.optim.Optimizer)
        assert isinstance(schedule, torch.optim.lr_scheduler.LambdaLR)
        state = {
            "step": step,
            "model": dict(self.model.state_dict()),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
        }
        return move_data_to_device(state, torch.device("cpu"))

    def resume_from(self, state: dict[str, Any]) -> None:
        """Take parameters from a state, before training starts; the optimiser takes its part when it is made."""
        self.model.load_state_dict(state["model"])
        self._resumed = state

    def configure_optimizers(self) -> Any:
        """AdamW, fused where the parameters' device has it, and its schedule per optimiser step."""
        options = self.options
        named = list(self.model.named_parameters())
        groups = [
            {"params": [p for n, p in named if decayed(n, p)], "weight_decay": options.weight_decay},
            {"params": [p for n, p in named if not decayed(n, p)], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=options.learning_rate,
            betas=options.betas,
            eps=options.epsilon,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, options, self.warmup_steps, self.total_steps)
        )
        if self._resumed:
            optimizer.load_state_dict(self._resumed["optimizer"])
            schedule.load_state_dict(self._resumed["schedule"])
            self._resumed = None
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
