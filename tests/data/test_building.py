"""Files of a cache appear whole, and what killed processes left beside them goes."""

from pathlib import Path

import pytest

from induction_bump.data.building import whole_or_not_at_all
from tests.leftovers import left_by_a_dead_writer


def write(path: Path, text: str) -> None:
    with whole_or_not_at_all(path) as aside:
        assert not path.exists() or path.read_text(encoding="utf-8") != text
        aside.write_text(text, encoding="utf-8")


def test_a_file_takes_the_place_of_another(tmp_path: Path) -> None:
    for text in ("one", "two"):
        write(tmp_path / "a.json", text)
        assert (tmp_path / "a.json").read_text(encoding="utf-8") == text
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "a.json", "one")
    with pytest.raises(TypeError):
        write(tmp_path / "a.json", 2)  # type: ignore[arg-type]
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_a_dead_process_of_this_machine_left_goes(tmp_path: Path) -> None:
    left_by_a_dead_writer(tmp_path / "other.json").touch()
    write(tmp_path / "a.json", "one")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
