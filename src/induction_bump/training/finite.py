"""The last look at a model before it is written."""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from induction_bump.training.errors import LossNotFiniteError


def check_finite(trainer: pl.Trainer, pl_module: Any, *, moments: bool) -> None:
    """Raises LossNotFiniteError on all ranks where a parameter holds a NaN or an infinity on one of them.

    Args: moments, whether what the optimiser keeps of each parameter is looked at as well.
    """
    named = [*pl_module.model.named_parameters(), *(_moments(trainer, pl_module) if moments else ())]
    flags = torch.stack([tensor.detach().isfinite().all() for _, tensor in named]).tolist()
    found = next((name for (name, _), finite in zip(named, flags, strict=True) if not finite), None)
    broken = found is not None
    if trainer.world_size > 1:
        broken = trainer.strategy.reduce_boolean_decision(broken, all=False)
    if broken:
        what = found or "the model of another rank"
        raise LossNotFiniteError(f"at step {trainer.global_step} {what} is not finite; everything before it is kept")


def _moments(trainer: pl.Trainer, pl_module: Any) -> Iterator[tuple[str, Tensor]]:
    """What the optimiser keeps of each parameter, beside counts of its steps."""
    states = trainer.optimizers[0].state
    for name, parameter in pl_module.model.named_parameters():
        for kept, tensor in states.get(parameter, {}).items():
            if isinstance(tensor, Tensor) and tensor.shape == parameter.shape:
                yield f"{kept} of {name}", tensor
