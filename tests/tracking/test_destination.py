"""Where a run goes: to the server only where the user has logged in, and never with a question."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from induction_bump.tracking.destination import TrackingError, choose
from induction_bump.tracking.options import TrackingOptions
from tests.tracking.wandb_double import API_KEY

SERVER = "http://127.0.0.1:9"
AUTO = TrackingOptions(mode="auto")


def mode_of(options: TrackingOptions) -> str | None:
    chosen = choose(options)
    return chosen and chosen.mode


def test_without_a_login_auto_is_offline() -> None:
    assert mode_of(AUTO) == "offline"


def test_with_a_key_in_the_environment_auto_is_online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", API_KEY)
    assert mode_of(AUTO) == "online"


def test_with_a_key_in_netrc_auto_is_online_for_that_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = Path.home() / ".netrc"
    netrc.write_text(f"machine 127.0.0.1:9\n  login user\n  password {API_KEY}\n")
    netrc.chmod(0o600)
    assert mode_of(AUTO) == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:10")
    assert mode_of(AUTO) == "offline"


def test_the_server_in_wandbs_settings_file_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_BASE_URL")
    settings = Path.home() / ".config" / "wandb" / "settings"
    settings.parent.mkdir(parents=True)
    settings.write_text("[default]\nbase_url = http://127.0.0.1:11\n")
    chosen = choose(AUTO)
    assert chosen
    assert chosen.server == "http://127.0.0.1:11"


@pytest.mark.parametrize(
    ("wandb_mode", "mode"), [("offline", "offline"), ("dryrun", "offline"), ("disabled", None), ("online", "online")]
)
def test_auto_follows_wandb_mode(wandb_mode: str, mode: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", API_KEY)
    monkeypatch.setenv("WANDB_MODE", wandb_mode)
    assert mode_of(AUTO) == mode


def test_an_explicit_mode_overrides_wandb_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", API_KEY)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert mode_of(TrackingOptions(mode="offline")) == "offline"
    assert mode_of(TrackingOptions(mode="online")) == "online"


def test_online_without_a_login_is_refused_with_the_way_out() -> None:
    with pytest.raises(TrackingError, match=r"tracking\.mode=online needs a login for http://127.0.0.1:9.*wandb login"):
        choose(TrackingOptions(mode="online"))


def test_a_malformed_key_is_no_login(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short")
    assert mode_of(AUTO) == "offline"
    assert "API key must have 40+ characters" in caplog.text
    with pytest.raises(TrackingError, match="40\\+ characters"):
        choose(TrackingOptions(mode="online"))


def test_invalid_settings_of_wandb_are_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(TrackingError, match="WANDB_") as caught:
        choose(AUTO)
    assert "\n" not in str(caught.value)


def test_the_environment_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SERVICE", "2-1-tcp-localhost-9")
    before = dict(os.environ)
    choose(AUTO)
    assert dict(os.environ) == before


TRACK_NOTHING = """
import sys
from induction_bump.tracking import mirror, track
from induction_bump.tracking.destination import choose
from induction_bump.tracking.options import TrackingOptions
assert choose(TrackingOptions(mode="none")) is None
loaded = {"wandb", "torch", "lightning", "pytorch_lightning"} & set(sys.modules)
assert not loaded, loaded
"""

TRACK_AUTO = """
from induction_bump.tracking.destination import choose
from induction_bump.tracking.options import TrackingOptions
print("chosen", choose(TrackingOptions(mode="auto")).mode)
"""


def test_none_imports_no_wandb_and_nothing_here_imports_torch() -> None:
    subprocess.run([sys.executable, "-c", TRACK_NOTHING], check=True, timeout=60)


def test_a_terminal_is_not_asked_for_a_login() -> None:
    master, slave = pty.openpty()
    try:
        asked = subprocess.run(
            [sys.executable, "-c", TRACK_AUTO], stdin=slave, stdout=slave, stderr=slave, timeout=60, check=False
        )
        said = os.read(master, 10_000).decode()
    finally:
        os.close(slave)
        os.close(master)
    assert asked.returncode == 0
    assert said.split() == ["chosen", "offline"]
