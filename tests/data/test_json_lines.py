"""What is wrong with JSONL is told with its file and its line."""

import gzip
import json
from pathlib import Path

import pytest

from induction_bump.data.documents import open_documents
from induction_bump.data.errors import CorpusError
from induction_bump.data.json_lines import fault
from induction_bump.data.options import FilesOptions

GOOD = [json.dumps({"text": f"row {number}"}) for number in range(5)]


def written(path: Path, *lines: str) -> Path:
    text = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.mark.parametrize("name", ["b.jsonl", "b.json", "b.jsonl.gz", "b.log"])
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": x}', "line 7 is not JSON (Expecting value, column 10)"),
        ("plain text", "line 7 is not JSON (Expecting value, column 1)"),
        ('{"other": "x"}', "line 7 has no 'text'; data.corpus.text_field must be one of 'other'"),
    ],
)
def test_a_corpus_names_the_file_and_the_line(tmp_path: Path, name: str, line: str, reason: str) -> None:
    first = written(tmp_path / "a.jsonl", *GOOD * 10)
    second = written(tmp_path / name, *GOOD, "", line, *GOOD)
    with pytest.raises(CorpusError) as caught:
        list(open_documents(FilesOptions(paths=(str(first), str(second)), format="jsonl")))
    assert str(caught.value) == f"data.corpus.paths: {second} cannot be read: {reason}"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('["a"]', "line 6 holds a list; every line must be an object, such as {"),
        ("3", "line 6 holds a number; every line must be an object"),
        ('{"text": ["a"]}', "line 6 holds a list in 'text', not text"),
    ],
)
def test_other_lines_that_no_document_can_be_made_of(tmp_path: Path, line: str, reason: str) -> None:
    path = written(tmp_path / "a.jsonl", *GOOD, line)
    assert (fault([path], "text") or "").startswith(f"{path} cannot be read: {reason}")


def test_a_line_that_is_no_json_is_told_before_one_without_text(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"other": 1}', *GOOD, "{")
    assert "line 7 is not JSON" in (fault([path], "text") or "")


def test_nothing_is_wrong_with_objects_nulls_arrays_in_a_file_and_what_cannot_be_opened_here(tmp_path: Path) -> None:
    paths = [
        written(tmp_path / "a.jsonl", *GOOD, "", '{"text": null}'),
        written(tmp_path / "b.json", "[", '{"text": "a"},', '{"text": "b"}', "]"),
        written(tmp_path / "c.jsonl.zst", "not this"),
    ]
    assert fault(paths, "text") is None


def test_rows_that_do_not_go_together_are_told_in_words(tmp_path: Path) -> None:
    paths = [written(tmp_path / "a.jsonl", *GOOD), written(tmp_path / "b.jsonl", '{"text": "a", "n": 1}')]
    with pytest.raises(CorpusError, match="some rows have other columns, or other types in them, than those before"):
        list(open_documents(FilesOptions(paths=tuple(map(str, paths)), format="jsonl")))
