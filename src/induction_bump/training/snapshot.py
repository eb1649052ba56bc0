"""Takes a snapshot at the moments of the schedules: measures, then weights, committed together."""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pytorch_lightning as pl
import torch

from induction_bump.measures.ngrams import Ngrams
from induction_bump.measures.probes import Probes
from induction_bump.measures.ranks import Ranks
from induction_bump.measures.refusals import noted
from induction_bump.measures.registry import CHEAP
from induction_bump.measures.statistics import NotFiniteError
from induction_bump.measures.take import Measured, take
from induction_bump.records.directory import RunDirectory
from induction_bump.training.errors import LossNotFiniteError
from induction_bump.training.finite import check_finite
from induction_bump.training.measured_tables import add_nulls, tables_of
from induction_bump.training.options import RunConfig
from induction_bump.training.rows import TrainingRows
from induction_bump.training.together import on_first_rank
from induction_bump.training.weights import save_weights


class Snapshots(pl.Callback):
    """Measures the plain float32 module before the first update, at scheduled steps, and after the last update.

    All ranks measure together, each on its share of the probes, and rank 0 writes. Training rows up to the step are
    committed first.
    """

    def __init__(
        self,
        config: RunConfig,
        run: RunDirectory,
        probes: Probes,
        ngrams: Ngrams,
        null99: Callable[[torch.device, Ranks], Mapping[str, float]],
        training_rows: TrainingRows,
    ) -> None:
        self.config, self.run, self.probes, self.ngrams, self.null99 = config, run, probes, ngrams, null99
        self.training_rows = training_rows
        self.measure_at = config.measure_schedule()
        self.expensive_at = config.expensive_schedule() or ()
        self.weights_at = config.weight_schedule()
        self.seconds = self.writing_seconds = 0.0
        """Time spent here on measuring and on writing, waiting for other ranks included."""
        self._last = -1

    def taken_at(self, step: int) -> bool:
        """Whether `step` has a snapshot."""
        return step in self.measure_at or (self.weights_at is not None and step in self.weights_at)

    def already_taken(self, step: int) -> None:
        """Training goes on after `step`, whose snapshot, where it has one, was committed before its checkpoint."""
        self._last = step

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
        if step == self._last or not self.taken_at(step):
            return
        self._last = step
        self.training_rows.flush(trainer)  # waits for the accelerator, so that its work is not counted as ours
        began = time.perf_counter()
        found = self._measure(pl_module.model, step) if measured else None
        check_finite(trainer, pl_module, moments=False)
        measured_at = time.perf_counter()

        def commit() -> None:
            tables = self._tables(found, step) if found else {}
            if found and found.left_out:
                self.run.update(not_applicable=noted(self.run.info.not_applicable, found.left_out))
            write_weights = (lambda path: save_weights(pl_module.model, path)) if weights else None
            self.run.write_snapshot(step, tables, write_weights)

        on_first_rank(trainer, commit)
        self.seconds += measured_at - began
        self.writing_seconds += time.perf_counter() - measured_at
        self.training_rows.restart_clock()

    def _measure(self, model: Any, step: int) -> Measured:
        ranks = Ranks.of_group()
        try:
            with _exact_float32(model.W_E.device.type):
                options = self.config.measures
                names = CHEAP.union(options.expensive) if step in self.expensive_at else CHEAP
                measured = take(model, self.probes, options, names, self.ngrams, ranks)
                if step == 0:
                    add_nulls(measured, self.null99(model.W_E.device, ranks))
        except NotFiniteError as error:
            raise LossNotFiniteError(f"at step {step} {error}; everything before it is kept") from None
        return measured

    def _tables(self, measured: Measured, step: int) -> dict[str, pa.Table]:
        return tables_of(measured, self.run.info.run_id, step, step * self.config.tokens_per_step)


@contextmanager
def _exact_float32(device: str) -> Generator[None, None, None]:
    """Neither autocast nor TF32, whatever training uses."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
