"""Where a run is mirrored to: W&B's server where the user has logged in, files beside the records elsewhere."""

import logging
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from induction_bump.tracking.options import TrackingOptions

_log = logging.getLogger(__name__)


class TrackingError(ValueError):
    """The user asked for tracking that cannot be had."""


@dataclass(frozen=True)
class Destination:
    """A place that W&B runs go to."""

    mode: Literal["offline", "online"]
    server: str
    """Base URL of the W&B server; offline, the one that the files are meant for."""
    project: str
    entity: str | None
    tags: tuple[str, ...]

    @property
    def label(self) -> str:
        """Names the place; a cursor counts for one place only."""
        return "offline" if self.mode == "offline" else f"{self.server} {self.entity or ''}/{self.project}"


def choose(options: TrackingOptions) -> Destination | None:
    """Where these options send a run in this environment; None for nowhere. It never asks the user anything.

    Raises TrackingError where `online` is wanted without a login, or W&B's own settings are invalid.
    """
    if options.mode == "none":
        return None
    with quiet_environment():
        return _choose(options)


def _choose(options: TrackingOptions) -> Destination | None:
    from wandb.errors import AuthenticationError

    settings = _settings()
    wanted: str = options.mode
    if wanted == "auto":
        wanted = {"dryrun": "offline", "offline": "offline", "disabled": "none"}.get(settings.mode, "auto")
    if wanted == "none":
        return None
    if wanted != "offline":
        try:
            found = _has_login(settings.base_url)
        except AuthenticationError as error:
            if wanted == "online":
                raise TrackingError(f"tracking.mode=online: {error}") from None
            _log.warning("mirroring offline: the W&B login for %s is invalid: %s", settings.base_url, error)
            found = False
        if not found and wanted == "online":
            raise TrackingError(
                f"tracking.mode=online needs a login for {settings.base_url}: run `wandb login`, "
                "or set WANDB_API_KEY; tracking.mode=offline needs none"
            )
        wanted = "online" if found else "offline"
    assert wanted in ("online", "offline")
    return Destination(wanted, settings.base_url, options.project, options.entity, options.tags)


@contextmanager
def quiet_environment(cache: Path | None = None) -> Generator[None, None, None]:
    """An environment in which W&B's client neither prints, nor reports its own errors to its makers, nor leaves files
    outside `cache`, nor joins a service that another process started and will take with it."""
    changes = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false", "WANDB_SERVICE": None}
    if cache:
        changes["WANDB_CACHE_DIR"] = str(cache)
    before = {name: os.environ.get(name) for name in changes}
    _set_environment(changes)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _settings() -> Any:
    """W&B's settings from its files and the environment, read anew: the client itself reads them once a process."""
    import wandb
    from pydantic import ValidationError

    directory = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    settings = wandb.Settings()
    settings.settings_system = str(directory / "settings")
    try:
        settings.update_from_system_settings()
        settings.update_from_env_vars(dict(os.environ))
    except (ValidationError, ValueError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise TrackingError(f"W&B's settings (WANDB_* or {settings.settings_system}): {first}") from None
    return settings


def _has_login(server: str) -> bool:
    """Whether W&B's client finds credentials for `server`: in the environment, netrc or its settings."""
    from wandb.sdk.lib.wbauth import authenticate_session

    found = authenticate_session(host=server, source="induction_bump", prompt=False, update_session=False)
    return found is not None
