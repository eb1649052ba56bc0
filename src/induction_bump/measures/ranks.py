"""Measures split over ranks: each computes what a share of the examples gives, and all get the whole.

What is exchanged are arrays with a row an example, or sums over examples, and every rank puts those of all ranks
together in the order of the ranks. What follows, means and standard errors, is the same code on the same arrays
whatever the number of ranks: there are no means of means, and no example is padded or counted twice.

All ranks exchange equally often, one of them that fails included: its last exchange is its error, and with it all are
done. None is left waiting for the others.
"""

from collections.abc import Callable, Generator, Hashable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch.distributed as dist

from induction_bump.measures.statistics import NotFiniteError

Key = TypeVar("Key", bound=Hashable)
T = TypeVar("T")
Array = npt.NDArray[Any]


class RankFailedError(RuntimeError):
    """Another rank could not do its part."""


@dataclass(frozen=True)
class Ranks:
    """One of `count` processes that measure the same weights together. All of them call the same, in the same order,
    inside `failing_together`, one such block after the other."""

    rank: int
    """From 0."""
    count: int
    all_gather: Callable[[Any], list[Any]]
    """What each rank gives, in their order, on all of them."""

    @classmethod
    def of_group(cls) -> "Ranks":
        """Those of torch.distributed's default group, `ALONE` where there is none.

        With NCCL, what is exchanged goes through the current CUDA device, which must be this rank's own.
        """
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return ALONE
        return cls(dist.get_rank(), dist.get_world_size(), _all_gather)

    def share(self, examples: int) -> slice:
        """Which of the examples are this rank's: shares are contiguous, differ by one at most, and may be empty."""
        return slice(examples * self.rank // self.count, examples * (self.rank + 1) // self.count)

    def whole(self, examples: int, of_share: Callable[[slice], Mapping[Key, Array]]) -> dict[Key, Array]:
        """Arrays by name with a row for each example; `of_share` gives a slice's, and is asked about no empty one."""
        parts = self._parts(examples, of_share)
        return {key: np.concatenate([part[key] for part in parts]) for key in (parts[0] if parts else ())}

    def total(self, examples: int, of_share: Callable[[slice], Mapping[Key, Array]]) -> dict[Key, Array]:
        """The same for sums over examples, all of one shape: those of the shares, added up."""
        parts = self._parts(examples, of_share)
        return {key: sum((part[key] for part in parts[1:]), parts[0][key]) for key in (parts[0] if parts else ())}

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives on rank 0, where it costs more than its result does to send."""
        return self._exchange(make() if self.rank == 0 else None)[0]

    @contextmanager
    def failing_together(self) -> Generator[None, None, None]:
        """Where one rank raises inside, each of them does before it leaves.

        A rank raises its own error. Others raise that of the first rank that failed: NotFiniteError as it is, since
        training calls it by its name, and anything else as a RankFailedError that names the rank.
        """
        if self.count == 1:
            yield
            return
        try:
            try:
                yield
                self._exchange(None)  # a rank may still have failed after the last one
            except _Over:
                raise
            except Exception as error:
                with suppress(Exception):  # this rank's own error says more than that others cannot be told
                    self.all_gather(_Failure(isinstance(error, NotFiniteError), str(error), type(error).__name__))
                raise
        except _Over as over:
            raise over.error from over.__cause__

    def _parts(self, examples: int, of_share: Callable[[slice], Mapping[Key, Array]]) -> list[Mapping[Key, Array]]:
        here = self.share(examples)
        parts = self._exchange(of_share(here) if here.stop > here.start else None)
        parts = [part for part in parts if part is not None]
        assert all(part.keys() == parts[0].keys() for part in parts)
        return parts

    def _exchange(self, value: Any) -> list[Any]:
        try:
            found = self.all_gather(value)
        except Exception as error:
            raise _Over(RankFailedError(f"another rank was lost: {error}")) from error
        for rank, value_or_failure in enumerate(found):
            if isinstance(value_or_failure, _Failure):
                raise _Over(value_or_failure.seen_from_elsewhere(rank))
        return found


@dataclass(frozen=True)
class _Failure:
    """What a rank sends in place of a result. Errors themselves may not survive being sent."""

    not_finite: bool
    message: str
    kind: str

    def seen_from_elsewhere(self, rank: int) -> Exception:
        if self.not_finite:
            return NotFiniteError(self.message)
        return RankFailedError(f"rank {rank} failed: {self.kind}: {self.message}")


class _Over(Exception):  # noqa: N818 - never seen outside
    """Every rank knows, or will find out by itself, that one has failed."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _all_gather(value: Any) -> list[Any]:
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


ALONE = Ranks(0, 1, lambda value: [value])
"""A process that measures by itself."""
