"""What a person sees while a run trains: a bar on a terminal, plain lines elsewhere."""

import logging
import math
import sys
import time
from typing import Any

import pytorch_lightning as pl
from tqdm import tqdm

from induction_bump.training.rows import TrainingRows

_ESTIMATE_SECONDS = 3.0
_LINE_SECONDS = 15.0
_log = logging.getLogger(__name__)


class Progress(pl.Callback):
    """Tokens, tokens/s, time left and loss; the first line says how long the whole run takes on this machine."""

    def __init__(self, training_rows: TrainingRows, total_steps: int, tokens_per_step: int, label: str) -> None:
        self.rows, self.total_steps, self.tokens_per_step, self.label = (
            training_rows,
            total_steps,
            tokens_per_step,
            label,
        )
        self._bar: tqdm | None = None
        self._began = self._said = 0.0
        self._first = 0
        self._estimated = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar on rank 0's terminal."""
        self._began = self._said = time.perf_counter()
        self._first = trainer.global_step
        if trainer.is_global_zero and sys.stderr.isatty():
            total = self.total_steps * self.tokens_per_step
            self._bar = tqdm(
                total=total,
                initial=self._first * self.tokens_per_step,
                unit="tok",
                unit_scale=True,
                desc=self.label,
                dynamic_ncols=True,
            )

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Say something where it is time to."""
        now = time.perf_counter()
        step = trainer.global_step
        if not trainer.is_global_zero or step == self._first:
            return
        if not self._estimated and now - self._began > _ESTIMATE_SECONDS:
            self._estimated = True
            self._estimate(step, now - self._began)
        if self._bar is not None:
            if now - self._said > 0.5:
                self._said = now
                if math.isfinite(self.rows.loss):  # none is gathered in the first steps
                    self._bar.set_postfix_str(f"loss {self.rows.loss:.3f}", refresh=False)
                self._bar.update(step * self.tokens_per_step - self._bar.n)
        elif now - self._said > _LINE_SECONDS or step == self.total_steps:
            self._said = now
            done = step - self._first
            left = (now - self._began) / done * (self.total_steps - step)
            speed = done * self.tokens_per_step / (now - self._began)
            loss = f", loss {self.rows.loss:.3f}" if math.isfinite(self.rows.loss) else ""
            self._say(
                f"{step * self.tokens_per_step / 1e6:.2f}M of {self.total_steps * self.tokens_per_step / 1e6:.2f}M "
                f"tokens{loss}, {speed / 1e3:.0f}k tokens/s, {spoken(left)} left"
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.update(trainer.global_step * self.tokens_per_step - self._bar.n)
            self._bar.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.close()

    def _estimate(self, step: int, seconds: float) -> None:
        speed = (step - self._first) * self.tokens_per_step / seconds
        whole = self.total_steps * self.tokens_per_step / speed
        self._say(f"about {spoken(whole)} on this machine for the whole run ({speed / 1e3:.0f}k tokens/s)")

    def _say(self, line: str) -> None:
        _log.info("%s", line)
        if self._bar is not None:
            self._bar.write(f"{self.label}: {line}", file=sys.stderr)
        else:
            print(f"{self.label}: {line}", file=sys.stderr, flush=True)


def spoken(seconds: float) -> str:
    """A duration as a person says it: `40 s`, `7 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
