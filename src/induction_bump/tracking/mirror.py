"""Following the committed records of one run and repeating them to W&B, each step once."""

import hashlib
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from induction_bump.records.directory import RunDirectory
from induction_bump.records.lock import RunLock
from induction_bump.records.schema import RunInfo
from induction_bump.tracking import client as wandb_client
from induction_bump.tracking.charts import charts
from induction_bump.tracking.cursor import Cursor, read_cursor, write_cursor
from induction_bump.tracking.destination import Destination
from induction_bump.tracking.located import digest, located_summary
from induction_bump.tracking.rows import Row, rows_after

_log = logging.getLogger(__name__)
_ROWS_PER_CURSOR = 1000


def wandb_id(info: RunInfo) -> str:
    """The W&B id of a run: another one for each time that it was started from step 0."""
    return hashlib.sha256(f"{info.study}/{info.run_id}/{info.generation}".encode()).hexdigest()[:16]


class Mirror:
    """Mirrors one run to one destination; the same while the run is going and afterwards.

    >>> mirror = Mirror(RunDirectory(path), choose(options))  # doctest: +SKIP
    >>> mirror.advance()                                      # doctest: +SKIP
    >>> mirror.close()                                        # doctest: +SKIP

    It writes below `<run>/tracking/` only, and one process at a time: `advance` raises RunBusyError while another one
    mirrors the run.
    """

    def __init__(
        self,
        run: RunDirectory,
        destination: Destination,
        *,
        again: bool = False,
        finish_seconds: float = 45.0,
        patience: float = 0.0,
    ) -> None:
        """`again` starts the W&B run over, under the same id. `patience`: seconds to wait for another mirror to end."""
        self.run = run
        self.destination = destination
        self.directory = run.path / "tracking"
        self._again = again
        self._finish_seconds = finish_seconds
        self._patience = patience
        self._lock = RunLock(self.directory)
        self._client: wandb_client.Client | None = None
        self._cursor = self._saved = Cursor()
        self._reconciled = False

    @property
    def step(self) -> int | None:
        """Every row up to this step has been handed to W&B's client."""
        return self._cursor.step

    def advance(self, most: int | None = None) -> int:
        """Hand over what has been committed since the last call, at most `most` rows; returns how many rows.

        Raises RecordsError for records that cannot be read, RunBusyError while another process mirrors the run, and
        what W&B raises where it cannot be reached.
        """
        info = self.run.info
        if self._reconciled and info.generation != self._cursor.generation:
            self._finish(exit_code=1)
        if not self._reconciled:
            self._reconcile(info)
        count = 0
        for row in rows_after(self.run, self._cursor.step):
            self._hand_over(info, row)
            count += 1
            if count % _ROWS_PER_CURSOR == 0:
                self._save()
            if count == most:
                break
        summary = located_summary(self.run)
        if digest(summary) != self._cursor.located:
            self._open(info).summarise(summary)
            self._cursor = replace(self._cursor, located=digest(summary), closed=False)
        self._save()
        return count

    def close(self) -> None:
        """Let W&B's client finish, within `finish_seconds`; safe to call twice.

        Raises TimeoutError where W&B takes longer; the next mirror then asks W&B how far it got, and repairs.
        """
        try:
            exit_code = 0 if self.run.status == "finished" else 1
            if self._reconciled and self._cursor.step is not None and self._cursor.exit_code != exit_code:
                # W&B still shows how an earlier mirror left the run.
                self._open(self.run.info)
            self._finish(exit_code)
        finally:
            self._lock.release()

    def abandon(self) -> None:
        """Let go without waiting for W&B; whatever was under way counts as lost until W&B has been asked."""
        self._client, self._reconciled = None, False
        wandb_client.drop_service()
        self._lock.release()

    def _reconcile(self, info: RunInfo) -> None:
        """Find out how far W&B got, which is where this mirror starts."""
        if not self._lock.held:
            self._lock.acquire(self._patience)
        stored = read_cursor(self._file)
        if stored.pid and not stored.closed and stored.pid != os.getpid():
            wandb_client.wait_for_services_of(stored.pid)
        label = self.destination.label
        fresh = Cursor(generation=info.generation, destination=label, pid=os.getpid())
        same = (stored.generation, stored.destination) == (info.generation, label)
        if self._again and self.destination.mode == "offline":
            self._remove_logs(wandb_id(info))
        if self._again:
            self._cursor = fresh
            self._open(info)
            # What was sent after this is not started over a second time, should W&B fail in between.
            self._again = False
        elif self.destination.mode == "online":
            self._cursor = fresh
            held = self._open(info).first_free_step - 1
            self._cursor = _upto(fresh, None if held < 0 else held)
        elif same and stored.closed:
            self._cursor = replace(stored, pid=os.getpid())
        else:
            self._cursor = _upto(fresh, wandb_client.last_step_offline(self.directory, wandb_id(info)))
        self._reconciled = True

    def _open(self, info: RunInfo) -> wandb_client.Client:
        if self._client is None:
            # Unclosed from here on: a process that dies now leaves a cursor that is not believed.
            self._cursor = replace(self._cursor, closed=False)
            self._save()
            self._client = wandb_client.Client(
                self.destination,
                self.directory,
                wandb_id=wandb_id(info),
                name=info.name,
                group=info.study,
                config=mirrored_config(self.run.config, info),
                replace=self._again,
                finish_seconds=self._finish_seconds,
            )
        return self._client

    def _hand_over(self, info: RunInfo, row: Row) -> None:
        values: dict[str, Any] = {"tokens": row.tokens, **row.values}
        if row.drawing:
            values |= charts(row.drawing)
        self._open(info).log(row.step, values)
        trained = row.step if "train/loss" in row.values else self._cursor.training_step
        measured = row.step if row.drawing else self._cursor.snapshot_step
        self._cursor = replace(self._cursor, training_step=trained, snapshot_step=measured, closed=False)

    def _finish(self, exit_code: int) -> None:
        """Close the W&B run; the next `advance` opens another one."""
        client, self._client = self._client, None
        reconciled, self._reconciled = self._reconciled, False
        if client:
            # W&B bounds its own finish; this bounds W&B.
            wandb_client.within(self._finish_seconds + 15, lambda: client.finish(exit_code))
            self._cursor = replace(self._cursor, exit_code=exit_code)
        if reconciled:
            self._cursor = replace(self._cursor, closed=True)
            self._save()

    def _save(self) -> None:
        if self._saved != self._cursor:
            write_cursor(self._file, self._cursor)
            self._saved = self._cursor

    def _remove_logs(self, identity: str) -> None:
        for log in (self.directory / "wandb").glob(f"offline-run-*/run-{identity}.wandb"):
            shutil.rmtree(log.parent)

    @property
    def _file(self) -> Path:
        return self.directory / "cursor.json"


def mirrored_config(config: dict[str, Any], info: RunInfo) -> dict[str, Any]:
    """The resolved config, and under `run` what run.json knows besides: sizes, versions, hashes."""
    left_out = {"study", "name", "status", "message", "pid", "finished_at", "seconds", "schema_version", "resumes"}
    left_out |= {"weights", "without_rows"}
    return {**config, "run": info.model_dump(exclude=left_out)}


def _upto(cursor: Cursor, step: int | None) -> Cursor:
    """W&B keeps rows in order of steps: one that holds a step holds every row up to it."""
    return replace(cursor, training_step=step, snapshot_step=step)
