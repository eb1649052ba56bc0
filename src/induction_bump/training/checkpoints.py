"""Checkpoints while training goes on, and going on from the newest of them.

A checkpoint is written after the optimiser step that it is named after, when the training rows and the snapshot of that
step are on the disk. It holds plain containers: parameters, AdamW's moments, the state of the learning-rate schedule,
random states, and how long training has taken so far. Data needs no state: step s takes sequences s·B … s·B+B−1.
"""

import hashlib
import logging
import pickle
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from induction_bump.records.checkpoints import checkpoints, write_checkpoint
from induction_bump.records.directory import RunDirectory
from induction_bump.records.schema import RecordsError
from induction_bump.training.finite import check_finite
from induction_bump.training.module import LanguageModel
from induction_bump.training.options import RunConfig
from induction_bump.training.rows import TrainingRows
from induction_bump.training.snapshot import Snapshots
from induction_bump.training.stopping import ASK_EVERY, StopOnRequest
from induction_bump.training.together import from_first_rank, on_first_rank

FORMAT = 1
MOST_OF_THE_TIME = 0.04
"""Share of the time that checkpoints between snapshots may take: a slow disk gets fewer of them."""

State = dict[str, Any]
_log = logging.getLogger(__name__)


class Checkpoints(pl.Callback):
    """Takes training up where the newest checkpoint left it, and writes one at every snapshot, every so often, and when
    training is asked to stop.

    It comes after `rows`, `snapshots` and `stop` among the callbacks, whose work on a step it completes.
    """

    def __init__(
        self, config: RunConfig, run: RunDirectory, rows: TrainingRows, snapshots: Snapshots, stop: StopOnRequest
    ) -> None:
        self.config, self.run, self.rows, self.snapshots, self.stop = config, run, rows, snapshots, stop
        self.every_seconds = config.checkpoints.every_seconds
        every = config.checkpoints.every
        self.every = every.steps(config.tokens_per_step) if every else None
        self.first_step = 0
        """The step that training goes on after; known once training has been set up."""
        self.seconds = 0.0
        """Time spent here since this process began, waiting included."""
        self._seconds_before: dict[str, float] = {}
        self._began = self._written = time.perf_counter()
        self._last_took = 0.0
        self._last = -1
        self._random: State | None = None

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Give every rank the newest checkpoint's state, before the optimiser is made and the first batch is asked for.

        The first rank reads it, so that no other needs the run's directory. Raises RecordsError where it is not one of
        this model.
        """
        state = from_first_rank(trainer, self._newest_state)
        self._began = time.perf_counter()
        if state is None:
            return
        _check_fits(state, pl_module, self.run)
        self.first_step = self._last = state["step"]
        self._seconds_before = state["seconds"]
        pl_module.resume_from(state)
        trainer.datamodule.first_step = state["step"]  # type: ignore[attr-defined]
        # what `trainer.global_step` is read from; Lightning's own way would bring its own idea of where the data is
        done = trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total
        done.ready = done.completed = state["step"]
        self.snapshots.already_taken(state["step"])
        self._random = state["random"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Step 0 has its snapshot, and so a checkpoint."""
        assert trainer.global_step == self.first_step, "Lightning keeps its count elsewhere"
        self._written = time.perf_counter()
        if trainer.global_step == 0:
            self._write(trainer, pl_module)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Where training goes on, random states go on too; whatever drew from them until now was not training."""
        if self._random:
            _set_random_state(self._random)
            self._random = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After an optimiser step; never within one."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and self._is_due(trainer):
            self._write(trainer, pl_module)

    def total_seconds(self) -> dict[str, float]:
        """Wall time so far, by what it went into: training, measuring snapshots, writing them and checkpoints."""
        measuring, writing = self.snapshots.seconds, self.snapshots.writing_seconds + self.seconds
        training = time.perf_counter() - self._began - measuring - writing
        now = {"training": training, "snapshots": measuring, "writing": writing}
        return {name: self._seconds_before.get(name, 0.0) + value for name, value in now.items()}

    def _is_due(self, trainer: pl.Trainer) -> bool:
        """The same on every rank."""
        step = trainer.global_step
        if step == self._last:
            return False
        if self.snapshots.taken_at(step) or self.stop.stopped or (self.every and step % self.every == 0):
            return True
        if self.every_seconds is None:
            return False
        wait = max(self.every_seconds, self._last_took / MOST_OF_THE_TIME)
        late = trainer.is_global_zero and time.perf_counter() - self._written > wait
        if trainer.world_size == 1:
            return late
        return step % ASK_EVERY == 0 and trainer.strategy.reduce_boolean_decision(late, all=False)

    def _write(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._last = step = trainer.global_step
        self.rows.flush(trainer)  # waits for the accelerator, so that its work is not counted as ours
        began = time.perf_counter()
        check_finite(trainer, pl_module, moments=True)

        def commit() -> None:
            state = pl_module.state_after(step) | {
                "format": FORMAT,
                "seconds": self.total_seconds(),
                "random": _random_state(),
            }
            write_checkpoint(self.run.path, step, lambda path: _save(state, path))

        on_first_rank(trainer, commit)
        self._written = time.perf_counter()
        self._last_took = self._written - began
        self.seconds += self._last_took
        self.rows.restart_clock()

    def _newest_state(self) -> State | None:
        found = checkpoints(self.run.path)
        if not found:
            return None
        _log.info("going on after step %d", found[-1].step)
        return read_state(found[-1].state)


def read_state(path: Path) -> State:
    """Read what a checkpoint holds, on the CPU. Raises RecordsError, in one line that names `path`, where it cannot."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise RecordsError(f"{path}: {(str(error).splitlines() or [type(error).__name__])[0]}") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise RecordsError(f"{path}: not a checkpoint of this version")
    return state


class _Hashed:
    """A file that knows the sha256 of what was written to it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self.hash = hashlib.sha256()
        self.error: OSError | None = None
        """The first one; torch makes another of it."""

    def write(self, data: Any) -> int:
        self.hash.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _save(state: State, path: Path) -> str:
    """Write a state; returns its sha256."""
    file = _Hashed(path)
    try:
        torch.save(state, file)  # type: ignore[arg-type]
    except Exception:
        if file.error:
            raise file.error from None
        raise
    finally:
        file.close()
    return file.hash.hexdigest()


def _random_state() -> State:
    """Of the first rank. Training draws nothing from it today; a model that did would go on where it stopped."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_random_state(state: State) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def _check_fits(state: State, module: LanguageModel, run: RunDirectory) -> None:
    own = {name: tuple(p.shape) for name, p in module.model.named_parameters()}
    saved = {name: tuple(tensor.shape) for name, tensor in state["model"].items()}
    if own != saved:
        raise RecordsError(f"{run.path / 'checkpoints'}: the checkpoint after step {state['step']} is another model's")
