"""W&B without the user's own login, settings or files, and without a network."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tracking.wandb_double import WandbDouble, isolate, serving


@pytest.fixture(scope="session", autouse=True)
def _service_ends() -> Iterator[None]:
    """W&B's service serves all tests, and ends with them."""
    yield
    if "wandb" in sys.modules:
        import wandb

        wandb.teardown()


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A home of its own, no W&B variables, no login left by another test, and a working directory to find litter in."""
    isolate(tmp_path, monkeypatch)
    yield
    if "wandb" in sys.modules:
        from wandb.sdk.lib.wbauth import unauthenticate_session

        unauthenticate_session(update_settings=False)


@pytest.fixture
def double() -> Iterator[WandbDouble]:
    """A local server."""
    with serving() as server:
        yield server


@pytest.fixture
def logged_in(double: WandbDouble, monkeypatch: pytest.MonkeyPatch) -> WandbDouble:
    """A local server, and a user who has logged in to it."""
    double.log_in(monkeypatch)
    return double
