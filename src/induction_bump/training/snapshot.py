"""Takes a snapshot at the moments of the schedules: measures, then weights, committed together."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytorch_lightning as pl
import torch

from induction_bump.measures.probes import Probes
from induction_bump.measures.take import Measured, take
from induction_bump.records.directory import RunDirectory
from induction_bump.records.frames import rows
from induction_bump.training.options import RunConfig
from induction_bump.training.rows import TrainingRows
from induction_bump.training.weights import save_weights


class Snapshots(pl.Callback):
    """Measures the plain float32 module before the first update, at scheduled steps, and after the last update.

    Rank 0 measures and writes; the others wait. Training rows up to the step are committed first.
    """

    def __init__(
        self,
        config: RunConfig,
        run: RunDirectory,
        probes: Probes,
        null99: Callable[[], Mapping[str, float]],
        training_rows: TrainingRows,
    ) -> None:
        self.config, self.run, self.probes, self.null99 = config, run, probes, null99
        self.training_rows = training_rows
        self.measure_at = config.measure_schedule()
        self.weights_at = config.weight_schedule()
        self.seconds = 0.0
        """Time spent here, waiting included."""
        self._last = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Step 0: before any update."""
        self._take(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After a pass; with accumulation most passes end no optimiser step."""
        self._take(trainer, pl_module)

    def _take(self, trainer: pl.Trainer, pl_module: Any) -> None:
        step = trainer.global_step
        measured = step in self.measure_at
        weights = self.weights_at is not None and step in self.weights_at
        if step == self._last or not (measured or weights):
            return
        self._last = step
        began = time.perf_counter()
        self.training_rows.flush(trainer)
        if trainer.is_global_zero:
            tables = self._tables(pl_module.model, step) if measured else {}
            write_weights = (lambda path: save_weights(pl_module.model, path)) if weights else None
            self.run.write_snapshot(step, tables, write_weights)
        trainer.strategy.barrier("snapshot")
        self.seconds += time.perf_counter() - began
        self.training_rows.restart_clock()

    def _tables(self, model: Any, step: int) -> dict[str, pa.Table]:
        with torch.autocast(model.W_E.device.type, enabled=False):
            measured = take(model, self.probes, self.config.measures)
        if step == 0:
            measured.scalars |= {f"null99/{name}": (value, None) for name, value in self.null99().items()}
        return tables_of(measured, self.run.info.run_id, step, step * self.config.tokens_per_step)


def tables_of(measured: Measured, run_id: str, step: int, tokens: int) -> dict[str, pa.Table]:
    """The measured numbers as rows of the tables they belong to."""
    columns: dict[str, dict[str, Any]] = {
        "scalars": {
            "name": list(measured.scalars),
            "value": [value for value, _ in measured.scalars.values()],
            "stderr": [stderr for _, stderr in measured.scalars.values()],
        }
    }
    if measured.loss_by_position is not None:
        loss = measured.loss_by_position
        columns["positions"] = {
            "position": np.arange(1, len(loss.value) + 1),
            "loss": loss.value,
            "stderr": loss.stderr,
        }
    if measured.token_losses is not None:
        columns["tokens"] = {"example": np.arange(len(measured.token_losses)), "loss": measured.token_losses}
    if measured.examples:
        columns["examples"] = {
            "name": [name for name, values in measured.examples.items() for _ in values],
            "example": np.concatenate([np.arange(len(values)) for values in measured.examples.values()]),
            "value": np.concatenate(list(measured.examples.values())),
        }
    if measured.heads:
        layers, heads = next(iter(measured.heads.values())).value.shape
        layer, head = (index.ravel() for index in np.indices((layers, heads)))
        columns["heads"] = {
            "layer": np.tile(layer, len(measured.heads)),
            "head": np.tile(head, len(measured.heads)),
            "measure": [name for name in measured.heads for _ in layer],
            "value": np.concatenate([e.value.ravel() for e in measured.heads.values()]),
            "stderr": np.concatenate([e.stderr.ravel() for e in measured.heads.values()]),
        }
    return {name: rows(name, run_id, step, tokens, values) for name, values in columns.items()}
