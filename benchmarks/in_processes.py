"""Simulations in several processes, each with one thread."""

from collections.abc import Callable, Iterable, Iterator
from multiprocessing import get_context
from typing import TypeVar

from induction_bump.locate.one_thread import one_thread
from induction_bump.pools import end_with_parent

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")


def in_processes(work: Callable[[Job], Outcome], jobs: Iterable[Job], processes: int) -> Iterator[Outcome]:
    """What `work` makes of each job, in their order; the processes end with this one, however it ends.

    `work` may be of the module that is run as a script, which `pools.process_pool` does not load.
    """
    with get_context("spawn").Pool(processes, _begin) as pool:
        yield from pool.imap(work, jobs)


def _begin() -> None:
    end_with_parent()
    one_thread()
