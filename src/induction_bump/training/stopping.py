"""Ends training at a step boundary when it is asked to, on all ranks at the same step."""

import signal
import threading
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

ASK_EVERY = 10
"""Steps between two agreements of several ranks; a single process asks at every step."""


class KeepSignals(pl.Callback):
    """Gives signals back to whoever had them: Lightning takes SIGTERM when it starts, and makes an error of it."""

    def __init__(self) -> None:
        self._before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning has registered its own by now; it restores these when it ends."""
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)


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
