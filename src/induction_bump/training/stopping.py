"""Ends training at a step boundary when it is asked to, on all ranks at the same step."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

ASK_EVERY = 10
"""Steps between two agreements of several ranks; a single process asks at every step."""


class StopOnRequest(pl.Callback):
    """Asks `requested` at step boundaries."""

    def __init__(self, requested: Callable[[], bool]) -> None:
        self.requested = requested
        self.stopped = False
        """Whether training ended because of a request."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop where any rank was asked to."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if trainer.world_size == 1:
            stop = self.requested()
        elif trainer.global_step % ASK_EVERY == 0:
            stop = trainer.strategy.reduce_boolean_decision(self.requested(), all=False)
        else:
            return
        if stop and trainer.global_step < trainer.max_steps:
            self.stopped = True
            trainer.should_stop = True
