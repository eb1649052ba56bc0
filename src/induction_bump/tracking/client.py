"""W&B's client, as far as a mirror needs it: one W&B run opened for appending, and what W&B already holds of it.

What was seen of version 0.31, and decides how this is written:

- Killed with its process, the client loses the rows of its last instants, so a cursor alone would lose them too.
  Offline, the truth is the last row in the transaction logs; online, the step at which the server resumes the run.
- Offline, resuming starts a new transaction log whose own count is 0, whatever `resume` says. Explicit steps carry
  on, and `wandb sync` uploads the logs of one id in order of time: several logs of one run are one history.
- A row whose step is not past the last one is dropped with a warning.
- The client's service is a process of its own, which outlives ours by a moment.
"""

import contextlib
import json
import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import psutil

from induction_bump.tracking.destination import Destination, quiet_environment

T = TypeVar("T")
_log = logging.getLogger(__name__)
_SERVICE = "wandb-core"

INIT_SECONDS = 30.0
"""Longest wait for the server when a run is opened."""


class Client:
    """A W&B run. Steps must go up from `first_free_step`."""

    def __init__(
        self,
        destination: Destination,
        directory: Path,
        *,
        wandb_id: str,
        name: str,
        group: str,
        config: Mapping[str, Any],
        replace: bool = False,
        finish_seconds: float = 45.0,
    ) -> None:
        """Open the run `wandb_id`, anew or where it stopped; `replace` starts it over. Files lie in `directory`/wandb.

        Raises what W&B raises where it cannot be opened within `INIT_SECONDS`.
        """
        directory.mkdir(parents=True, exist_ok=True)
        with quiet_environment(directory / "wandb" / "cache"):
            self._run = _init(
                project=destination.project,
                entity=destination.entity,
                id=wandb_id,
                name=name,
                group=group,
                job_type="train",
                tags=list(destination.tags),
                config=dict(config),
                dir=str(directory),
                mode=destination.mode,
                resume=None if replace else "allow",
                # Several runs of a study may be mirrored by one process: never hand back or touch another one.
                reinit="create_new",
                allow_val_change=True,
                settings=_settings(destination, finish_seconds),
            )
        self._run.define_metric("tokens", hidden=True)
        self._run.define_metric("*", step_metric="tokens")

    @property
    def first_free_step(self) -> int:
        """Online, one past the last step on the server. Offline always 0: see `last_step_offline`."""
        return self._run.starting_step

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Hand over the row of a step."""
        self._run.log(dict(values), step=step, commit=True)

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Set entries of the summary."""
        self._run.summary.update(dict(values))

    def finish(self, exit_code: int) -> None:
        """Upload or write the rest. Raises TimeoutError where that takes too long."""
        self._run.finish(exit_code=exit_code)


def _init(**arguments: Any) -> Any:
    import wandb

    return wandb.init(**arguments)


def _settings(destination: Destination, finish_seconds: float) -> Any:
    import wandb

    return wandb.Settings(
        base_url=destination.server,
        console="off",
        silent=True,
        use_dot_wandb=False,
        disable_code=True,
        disable_git=True,
        init_timeout=INIT_SECONDS,
        finish_timeout=finish_seconds,
        finish_timeout_raises=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
        x_file_stream_retry_wait_max_seconds=10.0,
        x_graphql_retry_wait_max_seconds=10.0,
    )


def last_step_offline(directory: Path, wandb_id: str) -> int | None:
    """The last step in the transaction logs of an offline run below `directory`/wandb; None where there is none."""
    logs = (directory / "wandb").glob(f"offline-run-*/run-{wandb_id}.wandb")
    steps = [row["_step"] for log in logs for row in read_log(log)]
    return max(steps, default=None)


def read_log(log: Path) -> Iterator[dict[str, Any]]:
    """The history rows of a transaction log, read by W&B's own reader; a torn end is left out."""
    from wandb.util import get_core_path

    command = [get_core_path(), "leet", "inspect", "-no-observability", "-json", "-run-file", str(log)]
    reader = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert reader.stdout
    with reader.stdout:
        for line in reader.stdout:
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if record.get("type") == "history":
                    yield record["history"]["item"]
    reader.wait()


def wait_for_services_of(pid: int, seconds: float = 15.0) -> None:
    """Wait until no W&B service that process `pid` started is left, and end one that stays.

    A service whose process was killed still writes what had reached it; what W&B holds is only settled after that.
    """
    services = list(services_of(pid))
    _, left = psutil.wait_procs(services, timeout=seconds)
    for service in left:
        _log.warning("ending a W&B service (process %d) that process %d left behind", service.pid, pid)
        with contextlib.suppress(psutil.Error):
            service.kill()
    psutil.wait_procs(left, timeout=5)


def drop_service() -> None:
    """End this process's own W&B service at once, and forget it, so that the next run starts a new one."""
    import wandb
    from wandb.sdk import wandb_setup

    for service in services_of(os.getpid()):
        with contextlib.suppress(psutil.Error):
            service.kill()
    connection = getattr(wandb_setup.singleton(), "_connection", None)
    # Without its service, teardown fails half-way, but only after it has forgotten the service.
    with contextlib.suppress(Exception, SystemExit):
        within(10, lambda: wandb.teardown(exit_code=1))
    process = getattr(connection, "_proc", None)
    if process:
        within(10, process.join)


def services_of(pid: int) -> Iterator[psutil.Process]:
    for process in psutil.process_iter(["name", "cmdline"]):
        command = process.info["cmdline"] or []
        if process.info["name"] == _SERVICE and ["--pid", str(pid)] in [
            command[i : i + 2] for i in range(len(command))
        ]:
            yield process


def within(seconds: float, call: Callable[[], T]) -> T:
    """Do `call` on a thread of its own. Raises TimeoutError where it takes longer; the thread is then left behind."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, name="wandb", daemon=True)
    started = time.monotonic()
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not outcome:
        raise TimeoutError(f"W&B did not answer within {time.monotonic() - started:.0f} s")
    return outcome[0]
