"""Processes that are ranks of one group, threads that stand in for them, and tables that should be the same."""

import multiprocessing
import os
import socket
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from induction_bump.measures.ranks import Ranks

PATIENCE = 120.0
"""Seconds after which processes are taken to wait for each other."""
Columns = dict[str, dict[str, list[Any]]]
"""Tables by name, as columns."""
ahead = multiprocessing.get_context("forkserver")
"""Starts processes that find imported what takes seconds to import."""
ahead.set_forkserver_preload(["induction_bump.training.train", "induction_bump.launch.cell", "datasets"])


def in_threads(count: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """What `work` returns, or the exception that it raises, on each of `count` ranks that are threads."""
    barrier, given = threading.Barrier(count, timeout=10), [None] * count

    def of(rank: int) -> Any:
        def all_gather(value: Any) -> list[Any]:
            given[rank] = value
            barrier.wait()
            found = list(given)
            barrier.wait()
            return found

        try:
            return work(Ranks(rank, count, all_gather))
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(of, range(count)))


def in_processes(count: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `work(rank, *arguments)` returns in each of `count` processes, which must be done in time."""
    pipes = [ahead.Pipe(duplex=False) for _ in range(count)]
    processes = [
        ahead.Process(target=_process, args=(rank, sender, work, arguments), daemon=True)
        for rank, (_, sender) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    try:
        for _, sender in pipes:
            sender.close()
        results = []
        for receiver, _ in pipes:
            assert receiver.poll(PATIENCE), "the processes wait for each other"
            results.append(receiver.recv())
    finally:
        for process in processes:
            process.kill()
            process.join()
    failures = [text for failed, text in results if failed]
    assert not failures, "\n".join(failures)
    return [result for _, result in results]


def _process(rank: int, sender: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    import torch

    torch.set_num_threads(1)
    try:
        sender.send((False, work(rank, *arguments)))
    except BaseException:
        sender.send((True, f"rank {rank}: {traceback.format_exc()}"))


def in_group(rank: int, count: int, store: Path, work: Callable[[Ranks], Any]) -> Any:
    """Inside a process: what `work` returns as one of the first `count` ranks over gloo, or what it raises."""
    import torch.distributed as dist

    dist.init_process_group(
        "gloo", f"file://{store}", rank=rank, world_size=count, timeout=timedelta(seconds=PATIENCE / 2)
    )
    try:
        return work(Ranks.of_group())
    except Exception as error:
        return error
    finally:
        dist.destroy_process_group()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


def as_torchrun_does(rank: int, count: int, port: int) -> None:
    """Set what torchrun tells a worker on one machine."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "GROUP_RANK": 0}
    os.environ |= {name: str(value) for name, value in told.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}


def assert_same_tables(found: Columns, expected: Columns, tolerance: float) -> None:
    """The same rows in the same order, their numbers within a tolerance."""
    assert found.keys() == expected.keys()
    for table, columns in expected.items():
        assert found[table].keys() == columns.keys()
        for name, values in columns.items():
            if not any(isinstance(value, float) for value in values):
                assert found[table][name] == values, (table, name)
                continue
            pairs = list(zip(found[table][name], values, strict=True))
            assert all((a is None) == (b is None) for a, b in pairs)
            there = [(a, b) for a, b in pairs if a is not None]
            np.testing.assert_allclose(*zip(*there, strict=True), rtol=0, atol=tolerance, err_msg=f"{table} {name}")
