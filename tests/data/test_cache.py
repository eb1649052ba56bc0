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
