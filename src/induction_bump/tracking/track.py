"""`bump track`: mirrors the records of a run, or of each run of a study, to W&B."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from induction_bump.records.directory import RunDirectory, find_runs
from induction_bump.records.lock import RunBusyError
from induction_bump.records.schema import RecordsError
from induction_bump.tracking.destination import Destination, TrackingError, choose
from induction_bump.tracking.mirror import Mirror, wandb_id
from induction_bump.tracking.options import TrackingOptions

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tracked:
    """What became of one run."""

    run: Path
    wandb_id: str | None
    """None, like `mode`, where its records cannot be read."""
    mode: Literal["offline", "online"] | None
    rows: int
    """Rows handed over now; 0 where W&B already had everything."""
    last_step: int | None
    """Last step that W&B has."""
    problem: str | None
    """Why the run is not, or not wholly, mirrored."""


def track(
    path: Path | str,
    mode: Literal["auto", "offline", "online"] | None = None,
    *,
    again: bool = False,
    finish_seconds: float = 120.0,
) -> list[Tracked]:
    """Mirror what W&B does not have yet. One entry a run, in order of names.

    Args:
        path: A run's directory or a study's.
        mode: Where to; None takes each run's own `tracking.mode`, and `auto` for a run that was not tracked.
        again: Start the W&B runs over under the same ids, for a mirror that was damaged, or whose records have had
            measures added to steps that W&B has already.
        finish_seconds: Longest wait for each run's upload.

    Raises RecordsError where `path` is neither a run nor a study, TrackingError where `online` is wanted without a
    login. Trouble with one run is reported in its entry and does not keep the others from being mirrored.
    """
    return [
        _unreadable(run, destination)
        if isinstance(destination, RecordsError)
        else _track_one(run, destination, again, finish_seconds)
        for run, destination in [(run, _destination(run, mode)) for run in find_runs(path)]
    ]


def tracking_options(run: RunDirectory) -> TrackingOptions:
    """The tracking options in a run's config. Raises TrackingError where they are invalid."""
    try:
        # JSON, because a strict reading of it takes lists for tuples.
        return TypeAdapter(TrackingOptions).validate_json(json.dumps(run.config.get("tracking") or {}))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["tracking", *map(str, first["loc"])])
        raise TrackingError(f"{run.path / 'config.yaml'}: {where}: {first['msg']}") from None


def _destination(run: RunDirectory, mode: Literal["auto", "offline", "online"] | None) -> Destination | RecordsError:
    try:
        run.check()
    except RecordsError as error:
        return error
    own = tracking_options(run)
    wanted = mode or ("auto" if own.mode == "none" else own.mode)
    chosen = choose(TrackingOptions(mode=wanted, project=own.project, entity=own.entity, tags=own.tags))
    if chosen is None:
        raise TrackingError("W&B is disabled here (WANDB_MODE=disabled); --mode offline or online overrides that")
    return chosen


def _unreadable(run: RunDirectory, error: RecordsError) -> Tracked:
    return Tracked(run.path, None, None, 0, None, str(error))


def _track_one(run: RunDirectory, destination: Destination, again: bool, finish_seconds: float) -> Tracked:
    mirror = Mirror(run, destination, again=again, finish_seconds=finish_seconds, patience=2.0)
    rows, problem = 0, None
    try:
        rows = mirror.advance()
        mirror.close()
    except RunBusyError as error:
        problem = f"mirrored by another process now: {error}"
    # W&B's client raises whatever it likes, and the other runs of the study do not depend on it.
    except Exception as error:
        _log.debug("mirroring %s", run.path, exc_info=True)
        problem = (
            f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
        )
        mirror.abandon()
    return Tracked(run.path, wandb_id(run.info), destination.mode, rows, mirror.step, problem)


def in_one_line(error: Exception) -> str:
    """An error's kind and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
