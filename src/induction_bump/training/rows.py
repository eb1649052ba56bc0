"""The training table: loss, learning rate, gradient norm and speed of every optimiser step."""

import math
import time
from typing import Any

import pyarrow as pa
import pytorch_lightning as pl
import torch
from torch import Tensor

from induction_bump.records.directory import RunDirectory
from induction_bump.records.schema import TABLES
from induction_bump.training.errors import LossNotFiniteError
from induction_bump.training.together import on_first_rank

GATHER_EVERY = 50
"""Steps between two reductions over ranks; the same on all of them, as it is a collective."""
COMMIT_SECONDS = 10.0
"""Longest time that gathered rows wait for their part file."""


class TrainingRows(pl.Callback):
    """Keeps every step's numbers on the device, gathers them now and then, and commits them as part files.

    Nothing is read back from an accelerator between two gatherings, so that logging never waits for it.
    """

    def __init__(self, run: RunDirectory, tokens_per_step: int) -> None:
        self.run, self.tokens_per_step = run, tokens_per_step
        self._passes: list[Tensor] = []
        self._waiting: list[tuple[int, Tensor, float, Tensor, float]] = []
        self._gathered: list[tuple[int, float, float, float, float]] = []
        self._clock = self._committed = time.perf_counter()
        self.tokens_per_second = 0.0
        """Over the last gathered steps."""
        self.loss = float("nan")
        """Of the last gathered step."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The clock starts with the first step."""
        self.restart_clock()

    def restart_clock(self) -> None:
        """What has passed until now is not training time."""
        self._clock = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note a pass; where it ends an optimiser step, note the step."""
        self._passes.append(outputs["loss"].detach())
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        now = time.perf_counter()
        loss = torch.stack(self._passes).sum()  # Lightning has divided each by the number of passes
        self._passes.clear()
        numbers = (loss, pl_module.rate_of_last_update, pl_module.gradient_norm, now - self._clock)
        self._waiting.append((trainer.global_step, *numbers))
        self._clock = now
        if trainer.global_step % GATHER_EVERY == 0:
            self._gather(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Commit what is left."""
        self.flush(trainer)

    def flush(self, trainer: pl.Trainer) -> None:
        """Gather and commit everything so far. Raises LossNotFiniteError naming the step after committing the rest."""
        self._gather(trainer, commit=True)

    def _gather(self, trainer: pl.Trainer, commit: bool = False) -> None:
        broken = None
        if self._waiting:
            steps, losses, rates, norms, seconds = zip(*self._waiting, strict=True)
            self._waiting = []
            own = torch.stack([torch.stack(losses).float(), torch.stack(norms).float()])
            over_ranks = trainer.strategy.reduce(own.clone(), reduce_op="mean")
            # gradients are the same on all ranks; that of one which broke alone shows in the mean
            values = list(zip(steps, *over_ranks.tolist(), rates, own[1].tolist(), strict=True))
            if own.is_cuda:
                # steps were only queued one by one; it is `tolist` that has waited for them
                now = time.perf_counter()
                whole = sum(seconds) + now - self._clock
                seconds, self._clock = (whole / len(steps),) * len(steps), now
            for (step, loss, norm_over_ranks, rate, norm), duration in zip(values, seconds, strict=True):
                broken = _broken(step, loss, norm_over_ranks)
                if broken:
                    break
                if trainer.is_global_zero:
                    self._gathered.append((step, loss, rate, norm, self.tokens_per_step / max(duration, 1e-9)))
                self.loss = loss
            self.tokens_per_second = self.tokens_per_step * len(steps) / max(sum(seconds), 1e-9)
        late = time.perf_counter() - self._committed > COMMIT_SECONDS
        on_first_rank(trainer, lambda: self._commit() if commit or late or broken else None)
        if broken:
            raise LossNotFiniteError(f"{broken}; everything before it is kept")

    def _commit(self) -> None:
        if not self._gathered:
            return
        schema = TABLES["training"]
        run_id = self.run.info.run_id
        data = [(run_id, s, s * self.tokens_per_step, *others) for s, *others in self._gathered]
        columns = list(zip(*data, strict=True))
        arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
        self.run.append_training(pa.Table.from_arrays(arrays, schema=schema))
        self._gathered = []
        self._committed = time.perf_counter()


def _broken(step: int, loss: float, norm: float) -> str | None:
    """What is not finite of a step, the same on all ranks."""
    for name, value in (("loss", loss), ("gradient norm", norm)):
        if not math.isfinite(value):
            return f"the {name} became {value} at step {step}"
    return None
