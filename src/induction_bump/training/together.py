"""What the first rank does alone, and all of them wait for."""

from collections.abc import Callable
from typing import TypeVar

import pytorch_lightning as pl

from induction_bump.training.errors import FirstRankFailedError

T = TypeVar("T")


def on_first_rank(trainer: pl.Trainer, do: Callable[[], object]) -> None:
    """Run `do` on rank 0 and return on all ranks when it is done.

    Where it raises, rank 0 raises the same and the others FirstRankFailedError: none is left waiting for the others.
    """
    error: Exception | None = None
    if trainer.is_global_zero:
        try:
            do()
        except Exception as raised:
            error = raised
    if trainer.world_size > 1:
        failed = trainer.strategy.reduce_boolean_decision(error is not None, all=False)
        if failed and error is None:
            raise FirstRankFailedError("the first rank failed; its log says why")
    if error:
        raise error


def from_first_rank(trainer: pl.Trainer, make: Callable[[], T]) -> T:
    """What `make` returns on rank 0, on all ranks; it fails as `on_first_rank` does."""
    made: list[T] = []
    on_first_rank(trainer, lambda: made.append(make()))
    if trainer.world_size == 1:
        return made[0]
    return trainer.strategy.broadcast(made[0] if made else None)  # type: ignore[return-value]
