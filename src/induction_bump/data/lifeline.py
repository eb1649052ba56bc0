"""Processes of a pool that end with the process that started them."""

import os
import threading
from multiprocessing import connection, parent_process


def end_with_parent() -> None:
    """For a pool's initializer: from now on this process ends when its parent does, however that ends.

    A worker of a pool outlives a parent that was killed: it waits on a pipe whose other end it holds itself.
    """
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
