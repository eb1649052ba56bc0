"""Documents are read in a settled order from every source, and what cannot be read is said in one line."""

import dataclasses
import gzip
import json
import lzma
import os
import random
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from induction_bump.data.documents import Documents, open_documents, source_files
from induction_bump.data.errors import CorpusError
from induction_bump.data.options import FilesOptions, HubOptions, PythonSourceOptions
from tests.data.conftest import make_texts, write_texts

TEXTS = make_texts(7, words=5)


def files(*paths: Path | str, **options) -> list[str]:
    return list(open_documents(FilesOptions(paths=tuple(map(str, paths)), **options)))


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def rows_of(texts: list[str], field: str = "text") -> list[dict]:
    return [{"number": number, field: text} for number, text in enumerate(texts)]


# --- files ---------------------------------------------------------------------------------------------------------


def test_a_text_file_is_a_document_whole_and_in_the_order_of_names(tmp_path: Path):
    assert files(write_texts(tmp_path / "a", ["one\n\ntwo", *TEXTS])) == ["one\n\ntwo", *TEXTS]


def test_paths_keep_their_own_order_and_name_a_file_once(tmp_path: Path):
    root = write_texts(tmp_path / "a", TEXTS)
    assert files(root / "00003.txt", root)[:3] == [TEXTS[3], TEXTS[0], TEXTS[1]]
    assert len(files(root / "00003.txt", root)) == 7


def test_glob_patterns_and_names_with_pattern_characters(tmp_path: Path):
    root = write_texts(tmp_path / "odd [1] name*", TEXTS)
    assert files(f"{tmp_path}/odd*/0000[24].txt") == [TEXTS[2], TEXTS[4]]
    assert files(root / "00005.txt") == [TEXTS[5]]


@pytest.mark.parametrize(("format", "write"), [("jsonl", write_jsonl), ("parquet", write_parquet)])
def test_rows_of_jsonl_and_parquet_are_documents(tmp_path: Path, format: str, write):
    first = write(tmp_path / f"x/0.{format}", rows_of(TEXTS[:4], "body"))
    write(tmp_path / f"x/1.{format}", rows_of(TEXTS[4:], "body"))
    assert files(first.parent, format=format, text_field="body") == TEXTS


def test_null_rows_are_left_out_with_a_counted_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = write_jsonl(tmp_path / "x.jsonl", [{"text": "one"}, {"text": None}, {"text": " "}, {"text": "two"}])
    assert files(path, format="jsonl") == ["one", "two"]
    assert "1 rows hold no text" in caplog.text


def test_reading_can_start_again(tmp_path: Path):
    documents = open_documents(FilesOptions(paths=(str(write_texts(tmp_path / "a", TEXTS)),)))
    assert list(documents) == list(documents) == TEXTS


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(CorpusError, match=r"^data\.corpus\.paths: '.*/nowhere\.txt' names no readable files; give"):
        files(tmp_path / "nowhere.txt")


def test_a_directory_without_the_format_is_named(tmp_path: Path):
    with pytest.raises(CorpusError, match=r"names no parquet files"):
        files(write_texts(tmp_path / "a", TEXTS), format="parquet")


def test_an_empty_file_is_named(tmp_path: Path):
    root = write_texts(tmp_path / "a", [*TEXTS, ""])
    with pytest.raises(CorpusError, match=r"^data\.corpus\.paths: .*/00007\.txt is empty"):
        files(root)


@pytest.mark.parametrize(("format", "write"), [("jsonl", write_jsonl), ("parquet", write_parquet)])
def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path, format: str, write):
    path = write(tmp_path / f"x.{format}", rows_of(TEXTS))
    with pytest.raises(
        CorpusError, match=r"^data\.corpus\.text_field='body' is no column; there are 'number', 'text'$"
    ):
        files(path, format=format, text_field="body")


def test_a_column_of_numbers_is_no_text(tmp_path: Path):
    path = write_parquet(tmp_path / "x.parquet", rows_of(TEXTS))
    with pytest.raises(CorpusError, match=r"text_field='number' holds int in row 0, not text"):
        files(path, format="parquet", text_field="number")


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_a_file_of_another_format_is_named(tmp_path: Path, format: str):
    path = tmp_path / "x.bin"
    path.write_text("neither {json nor parquet\n" * 10)
    with pytest.raises(CorpusError, match=r"^data\.corpus\.paths: .*/x\.bin cannot be read: ") as caught:
        files(path, format=format)
    assert "\n" not in str(caught.value)


def zipped(path: Path, texts: list[bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for number, text in enumerate(texts):
            archive.writestr(f"{number}.txt", text)
    return path


def test_an_archive_of_text_files_is_as_many_documents(tmp_path: Path):
    assert files(zipped(tmp_path / "a.zip", [b"one", b"two", b"three"])) == ["one", "two", "three"]


CUT = gzip.compress(random.Random(0).randbytes(5000).hex().encode(), mtime=0)[:-100]


@pytest.mark.parametrize("format", ["text", "jsonl"])
@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("b.jsonl.gz", CUT, "Compressed file ended before the end-of-stream marker was reached"),
        ("b.jsonl.gz", b"{}", "Not a gzipped file (b'{}')"),
        ("b.jsonl.gz", gzip.compress(b"{}\n" * 99, mtime=0)[:-8] + bytes(8), "CRC check failed 0x"),
        ("b.jsonl.xz", lzma.compress(b"{}\n" * 99)[:-20], "Compressed file ended before the end-of-stream marker"),
        ("b.jsonl.bz2", b"{}", "Invalid data stream"),
    ],
    ids=["cut", "no gzip", "other checksum", "cut xz", "no bzip2"],
)
def test_a_compressed_file_that_is_damaged_is_named(tmp_path: Path, format: str, name: str, data: bytes, reason: str):
    first, path = write_jsonl(tmp_path / "a.jsonl", rows_of(TEXTS)), tmp_path / name
    path.write_bytes(data)
    with pytest.raises(CorpusError) as caught:
        files(first, path, format=format)
    assert str(caught.value).startswith(f"data.corpus.paths: {path} cannot be read: {reason}")
    assert "\n" not in str(caught.value)


# --- hub -----------------------------------------------------------------------------------------------------------


def lay_out_parquet(root: Path) -> None:
    write_parquet(root / "data/train-00000-of-00002.parquet", rows_of(TEXTS[:3]))
    write_parquet(root / "data/train-00001-of-00002.parquet", rows_of(TEXTS[3:5]))
    write_parquet(root / "data/test-00000-of-00001.parquet", rows_of(TEXTS[5:]))


def lay_out_jsonl(root: Path) -> None:
    write_jsonl(root / "train.jsonl", rows_of(TEXTS[:5]))
    write_jsonl(root / "test.jsonl", rows_of(TEXTS[5:]))


def lay_out_text(root: Path) -> None:
    root.mkdir()
    (root / "train.txt").write_text("".join(TEXTS[:5]), encoding="utf-8")
    (root / "test.txt").write_text("".join(TEXTS[5:]), encoding="utf-8")


def hub(root: Path, **options) -> list[str]:
    return list(open_documents(HubOptions(dataset=str(root), revision="v1", **options)))


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("lay_out", [lay_out_parquet, lay_out_jsonl, lay_out_text])
def test_a_local_data_set_is_read_streamed_or_not(tmp_path: Path, lay_out, streaming: bool):
    lay_out(tmp_path / "set")
    found = {split: hub(tmp_path / "set", split=split, streaming=streaming) for split in ("train", "test")}
    stripped = [text.strip() for text in TEXTS]
    assert [text.strip() for text in found["train"]] == stripped[:5]
    assert [text.strip() for text in found["test"]] == stripped[5:]


@pytest.mark.parametrize("streaming", [True, False])
def test_configurations_are_told_apart(tmp_path: Path, streaming: bool):
    write_jsonl(tmp_path / "set/en/train.jsonl", rows_of(TEXTS[:3]))
    write_jsonl(tmp_path / "set/de/train.jsonl", rows_of(TEXTS[3:]))
    card = (
        "---\nconfigs:\n- config_name: en\n  data_files: en/*.jsonl\n- config_name: de\n  data_files: de/*.jsonl\n---\n"
    )
    (tmp_path / "set/README.md").write_text(card)
    assert hub(tmp_path / "set", config="de", streaming=streaming) == TEXTS[3:]
    with pytest.raises(CorpusError, match=r"^data\.corpus\.config=null: .* has 'en', 'de'$"):
        hub(tmp_path / "set", streaming=streaming)
    with pytest.raises(CorpusError, match=r"^data\.corpus\.config='fr': .* has 'en', 'de'$"):
        hub(tmp_path / "set", config="fr", streaming=streaming)


@pytest.mark.parametrize("streaming", [True, False])
def test_max_documents_ends_early(tmp_path: Path, streaming: bool):
    lay_out_parquet(tmp_path / "set")
    assert hub(tmp_path / "set", max_documents=4, streaming=streaming) == TEXTS[:4]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_split_that_is_not_there_is_named_with_those_there_are(tmp_path: Path, streaming: bool):
    lay_out_jsonl(tmp_path / "set")
    with pytest.raises(CorpusError, match=r"^data\.corpus\.split='dev': .* has 'train', 'test'$"):
        hub(tmp_path / "set", split="dev", streaming=streaming)


@pytest.mark.parametrize("streaming", [True, False])
def test_a_hub_column_that_is_not_there_is_named(tmp_path: Path, streaming: bool):
    lay_out_parquet(tmp_path / "set")
    with pytest.raises(
        CorpusError, match=r"^data\.corpus\.text_field='body' is no column; there are 'number', 'text'$"
    ):
        hub(tmp_path / "set", text_field="body", streaming=streaming)


def test_a_directory_that_is_not_there_is_no_name_on_the_hub(tmp_path: Path):
    with pytest.raises(CorpusError, match=r"^data\.corpus\.dataset='.*/none' is no directory"):
        hub(tmp_path / "none")


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path: Path):
    with pytest.raises(CorpusError, match=r"^data\.corpus\.dataset: owner/name cannot be read: ") as caught:
        hub(Path("owner/name"))
    assert "\n" not in str(caught.value)


UNREACHABLE = """
import sys
from types import SimpleNamespace

import huggingface_hub.utils._http as http

from induction_bump.data.documents import open_documents
from induction_bump.data.errors import CorpusError
from induction_bump.data.options import HubOptions

waited = []
http.time = SimpleNamespace(sleep=waited.append)  # it tries again for half a minute
try:
    list(open_documents(HubOptions(dataset="owner/name", revision="v1")))
except CorpusError as error:
    print(error)
assert waited, "it did not try"
"""


@pytest.mark.processes
def test_nothing_else_is_said_while_it_is_tried_again(tmp_path: Path):
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", UNREACHABLE], env={**os.environ, **nobody}, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("data.corpus.dataset: owner/name cannot be read: ")
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


@pytest.mark.parametrize("streaming", [True, False])
def test_a_compressed_file_of_a_data_set_that_is_damaged_is_one_line(tmp_path: Path, streaming: bool):
    for name, data in {"cut": CUT, "other": b"{}"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.jsonl.gz").write_bytes(data)
        with pytest.raises(CorpusError, match=rf"^data\.corpus\.dataset: .*/{name} cannot be read: ") as caught:
            hub(tmp_path / name, streaming=streaming)
        assert "\n" not in str(caught.value)


def test_remote_code_is_never_run(tmp_path: Path):
    root = tmp_path / "set"
    root.mkdir()
    mark = tmp_path / "ran"
    (root / "set.py").write_text(
        f"open({str(mark)!r}, 'w')\nimport datasets\nclass B(datasets.GeneratorBasedBuilder): pass\n"
    )
    with pytest.raises(CorpusError, match=r"^data\.corpus\.dataset=.*scripts are no longer supported"):
        hub(root)
    assert not mark.exists()


# --- what is no UTF-8 ----------------------------------------------------------------------------------------------

BAD, MENDED = "grün".encode("latin-1"), "gr�n"


def as_text_files(root: Path, documents: list[bytes]) -> FilesOptions:
    root.mkdir()
    for number, data in enumerate(documents):
        (root / f"{number}.txt").write_bytes(data)
    return FilesOptions(paths=(str(root),))


def as_jsonl(root: Path, documents: list[bytes]) -> FilesOptions:
    root.mkdir()
    (root / "x.jsonl").write_bytes(b"".join(b'{"text": "%s"}\n' % data for data in documents))
    return FilesOptions(paths=(str(root),), format="jsonl")


def as_parquet(root: Path, documents: list[bytes]) -> FilesOptions:
    root.mkdir()
    buffers = pa.array(documents, pa.binary()).buffers()
    texts = pa.Array.from_buffers(pa.string(), len(documents), buffers)  # nobody looks whether they are UTF-8
    pq.write_table(pa.table({"text": texts}), root / "x.parquet")
    return FilesOptions(paths=(str(root),), format="parquet")


def as_lines(root: Path, documents: list[bytes]) -> HubOptions:
    root.mkdir()
    (root / "train.txt").write_bytes(b"".join(data + b"\n" for data in documents))
    return HubOptions(dataset=str(root), revision="v1")


def as_lines_at_once(root: Path, documents: list[bytes]) -> HubOptions:
    return dataclasses.replace(as_lines(root, documents), streaming=False)


def as_csv(root: Path, documents: list[bytes]) -> HubOptions:
    root.mkdir()
    (root / "train.csv").write_bytes("größe\n".encode() + b"".join(data + b"\n" for data in documents))
    return HubOptions(dataset=str(root), revision="v1", text_field="größe", streaming=False)


def as_source(root: Path, documents: list[bytes]) -> PythonSourceOptions:
    root.mkdir()
    for number, data in enumerate(documents):
        (root / f"{number}.py").write_bytes(data)
    return PythonSourceOptions()


LAYOUTS = {
    as_text_files: ("files", "{root}/2.txt"),
    as_jsonl: ("rows", "row 2 of {root}/x.jsonl"),
    as_parquet: ("rows", "row 2 of {root}/x.parquet"),
    as_lines: ("rows", "row 2 of {root}"),
    as_lines_at_once: ("rows", "row 2 of {root}"),
    as_csv: ("rows", "row 2 of {root}"),
    as_source: ("files", "{root}/2.py"),
}


@pytest.fixture(params=list(LAYOUTS), ids=lambda lay_out: lay_out.__name__)
def laid_out(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Documents in one of the layouts under a policy, what it calls them, and what it calls the third."""
    root = tmp_path / "set"
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(root))
    kind, name = LAYOUTS[request.param]

    def read(documents: list[bytes], policy: str) -> Documents:
        return open_documents(dataclasses.replace(request.param(root, documents), undecodable=policy))

    return read, kind, name.format(root=root)


SOME_BAD = [b"one", "grün".encode(), BAD, b"two"]


def test_what_is_no_utf8_is_left_out_counted_and_named_once(laid_out, caplog: pytest.LogCaptureFixture):
    read, kind, name = laid_out
    documents = read(SOME_BAD, "skip")
    assert list(documents) == list(documents) == ["one", "grün", "two"]
    assert [record.getMessage() for record in caplog.records] == [
        f"data.corpus.undecodable=skip: 1 of 4 {kind} cannot be decoded ({name}); left out"
    ]


def test_what_is_no_utf8_is_mended_where_that_is_asked_for(laid_out, caplog: pytest.LogCaptureFixture):
    read, kind, name = laid_out
    assert list(read(SOME_BAD, "replace")) == ["one", "grün", MENDED, "two"]
    assert f"=replace: 1 of 4 {kind} cannot be decoded ({name}); such bytes became �" in caplog.text


def test_what_is_no_utf8_is_refused_in_a_line_where_that_is_asked_for(laid_out):
    read, _, name = laid_out
    with pytest.raises(CorpusError, match=rf"^data\.corpus\.undecodable=refuse: {name} cannot be decoded: ") as caught:
        list(read(SOME_BAD, "refuse"))
    assert "\n" not in str(caught.value)


def test_nothing_but_undecodable_text_is_an_error(laid_out):
    read, kind, _ = laid_out
    with pytest.raises(CorpusError, match=rf"^data\.corpus\.undecodable=skip: 2 of 2 {kind} cannot be decoded \("):
        list(read([BAD, BAD], "skip"))


def test_only_the_first_few_of_many_undecodable_files_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    documents = open_documents(as_text_files(tmp_path / "a", [BAD] * 9 + [b"one"]))
    assert list(documents) == ["one"]
    assert "0.txt, " in caplog.text
    assert "2.txt and 6 more)" in caplog.text
    assert "3.txt" not in caplog.text


def test_undecodable_text_after_the_last_document_that_is_wanted_is_not_read(tmp_path: Path):
    options = dataclasses.replace(as_lines(tmp_path / "a", SOME_BAD), undecodable="refuse", max_documents=2)
    assert list(open_documents(options)) == ["one", "grün"]


# --- byte order marks ----------------------------------------------------------------------------------------------

MARK = "\ufeff".encode()


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("header", ["text,n", '"text",n', '"text","a, b"'])
def test_csv_with_a_byte_order_mark_has_the_columns_that_it_names(tmp_path: Path, header: str, streaming: bool):
    root = tmp_path / "set"
    root.mkdir()
    for name, mark in (("a", MARK), ("b", b"")):
        (root / f"{name}.csv").write_bytes(mark + f"{header}\n{name}: hällo,1\n".encode())
    assert hub(root, streaming=streaming) == ["a: hällo", "b: hällo"]


@pytest.mark.parametrize("streaming", [True, False])
def test_jsonl_with_a_byte_order_mark_is_read(tmp_path: Path, streaming: bool):
    root = tmp_path / "set"
    root.mkdir()
    (root / "a.jsonl").write_bytes(MARK + '{"text": "hällo"}\n{"text": "b"}\n'.encode())
    assert hub(root, streaming=streaming) == files(root, format="jsonl") == ["hällo", "b"]


def test_text_with_a_byte_order_mark_keeps_it_as_any_other_character(tmp_path: Path):
    root = tmp_path / "set"
    root.mkdir()
    (root / "a.txt").write_bytes(MARK + "hällo\nb".encode())
    assert hub(root) == ["\ufeffhällo", "b"]
    assert files(root) == ["\ufeffhällo\nb"]


# --- python_source -------------------------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small standard library, and a site-packages inside it."""
    root = tmp_path / "lib"
    for name, data in {
        "b.py": b"b = 1\n",
        "a.py": b"# -*- coding: latin-1 -*-\na = '\xfc'\n",
        "bad.py": b"c = '\xff'\n",
        "empty.py": b"",
        "text.txt": b"no source",
        "package/z.py": b"z = 2\r\n",
        "site-packages/installed.py": b"d = 3\n",
        ".hidden/e.py": b"e = 4\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    paths = {"stdlib": str(root), "purelib": str(root / "site-packages"), "platlib": str(root / "site-packages")}
    monkeypatch.setattr(sysconfig, "get_path", paths.__getitem__)
    return root


def test_python_source_reads_the_librarys_own_files_in_their_declared_encoding(library: Path):
    assert list(open_documents(PythonSourceOptions())) == ["# -*- coding: latin-1 -*-\na = 'ü'\n", "b = 1\n", "z = 2\n"]


@pytest.mark.parametrize("name", ["rot13", "hex", "idna", "no-such-thing", "undefined", "utf-16"])
def test_source_in_an_encoding_that_is_none_of_text_is_mended_as_utf8(library: Path, name: str):
    text = f"# coding: {name}\nö = '..a'\n"
    (library / "bad.py").write_bytes(text.encode() + b"# \xff\n")
    (library / "a.py").unlink()
    assert list(open_documents(PythonSourceOptions(undecodable="replace")))[1] == text + "# �\n"


def test_installed_packages_are_added_on_request(library: Path):
    documents = list(open_documents(PythonSourceOptions(installed_packages=True)))
    assert documents[-1] == "d = 3\n"
    assert len(documents) == 4


def test_this_machines_own_library_is_found():
    found = source_files(PythonSourceOptions())
    assert len(found) > 300
    assert found == sorted(found)
    assert not any("site-packages" in path.parts for path in found)
