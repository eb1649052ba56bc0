"""An entry of a cache that is not what was written is made again, and the log says so."""

import logging
from pathlib import Path
from typing import Any

import pytest

from induction_bump.data.cache import entry, read_json, write_json
from tests.damage import DAMAGE

KEPT: list[Any] = [{}, [], {"b": 0.1, "a": [1, None, "ä"]}, 7]


@pytest.mark.parametrize("content", KEPT, ids=str)
def test_what_was_kept_comes_back(tmp_path: Path, content: Any, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "of" / "a.json"
    assert read_json(path) is None
    write_json(path, content)
    assert read_json(path) == content
    assert not caplog.records


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_none_and_said_to_be_damaged(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    path.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert read_json(path) is None
    [record] = caplog.records
    assert record.getMessage().startswith(f"{path} in a cache is damaged (")


def test_every_change_of_a_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"prefix_matching": 0.125})
    sound = path.read_bytes()
    for place in range(len(sound)):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        assert read_json(path) is None, sound[place : place + 1]


def test_what_a_reader_raises_is_told_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Path) -> int:
        raise ZeroDivisionError("first\nsecond")

    assert entry(tmp_path, broken) is None
    assert caplog.messages == [f"{tmp_path} in a cache is damaged (ZeroDivisionError: first); it is made again"]


@pytest.mark.parametrize(
    "error", [MemoryError(), PermissionError(13, "Permission denied"), OSError(5, "Input/output error")], ids=repr
)
def test_what_cannot_be_read_is_not_taken_for_damage(tmp_path: Path, error: Exception) -> None:
    def refused(_: Path) -> int:
        raise error

    with pytest.raises(type(error)):
        entry(tmp_path, refused)


@pytest.mark.parametrize("older", ["{}", '{"a": {"b": 1}}', '{"content": 7}'])
def test_what_an_older_version_has_kept_without_a_checksum_is_made_again_in_silence(
    tmp_path: Path, older: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.json"
    path.write_text(older)
    with caplog.at_level(logging.INFO):
        assert read_json(path) is None
    assert not caplog.records


def test_damage_is_told_once_until_the_entry_was_sound(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.json"
    for times in (1, 2):
        path.write_text("{")
        assert [read_json(path) for _ in range(3)] == [None] * 3
        assert len(caplog.records) == times
        write_json(path, 7)
        assert read_json(path) == 7
