"""A fingerprint is of content and order, never of places; whatever changes the documents changes it."""

import dataclasses
import os
import shutil
import time
from pathlib import Path

import pytest

from induction_bump.data import fingerprint as module
from induction_bump.data.errors import CorpusError
from induction_bump.data.fingerprint import FileHashes, fingerprint, tokenizer_fingerprint
from induction_bump.data.options import (
    DataOptions,
    FilesOptions,
    HubOptions,
    RepeatsOptions,
    TokenizerOptions,
    TriggersOptions,
)
from tests.damage import DAMAGE
from tests.data.conftest import make_texts, write_texts

TEXTS = make_texts(5, words=5)


def of_files(*paths: Path, **options) -> str:
    return fingerprint(DataOptions(corpus=FilesOptions(paths=tuple(map(str, paths)), **options)))


def test_moved_files_keep_their_fingerprint(tmp_path: Path):
    first = of_files(write_texts(tmp_path / "a", TEXTS))
    shutil.move(tmp_path / "a", tmp_path / "elsewhere")
    assert of_files(tmp_path / "elsewhere") == first


@pytest.mark.parametrize("texts", [TEXTS[:4], [*TEXTS, "more"], TEXTS[::-1], ["x" + TEXTS[0], *TEXTS[1:]]])
def test_other_content_or_order_is_another_fingerprint(tmp_path: Path, texts: list[str]):
    assert of_files(write_texts(tmp_path / "a", TEXTS)) != of_files(write_texts(tmp_path / "b", texts))


def test_the_column_counts_where_there_are_columns(tmp_path: Path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": "b"}\n')
    assert of_files(path, format="jsonl", text_field="a") != of_files(path, format="jsonl", text_field="b")
    assert of_files(path, text_field="a") == of_files(path, text_field="b")
    assert of_files(path) != of_files(path, format="jsonl")


def test_undecodable_text_counts_where_it_is_mended(tmp_path: Path):
    root = write_texts(tmp_path / "a", TEXTS)
    assert of_files(root) == of_files(root, undecodable="skip") == of_files(root, undecodable="refuse")
    assert of_files(root) != of_files(root, undecodable="replace")
    assert of_hub() == of_hub(undecodable="refuse") != of_hub(undecodable="replace")


def test_fingerprints_of_texts_stay_what_they_were(tmp_path: Path):
    assert of_files(write_texts(tmp_path / "a", TEXTS))[:16] == "2099b5e6fc090b03"
    assert of_hub()[:16] == "9c9c6e37d90641c1"


def test_synthetic_corpora_are_their_options():
    found = {
        fingerprint(DataOptions(corpus=corpus))
        for corpus in (RepeatsOptions(), RepeatsOptions(copy_share=0.0), RepeatsOptions(zipf=2.0), TriggersOptions())
    }
    assert len(found) == 4
    assert fingerprint(DataOptions(corpus=RepeatsOptions())) in found


def test_fingerprints_of_the_default_corpora_stay_what_they_were():
    assert fingerprint(DataOptions(corpus=RepeatsOptions()))[:16] == "5af095c8be2aec23"
    assert fingerprint(DataOptions(corpus=TriggersOptions()))[:16] == "9d44c1861483d167"


def test_what_is_done_with_the_corpus_is_not_part_of_it():
    base = DataOptions()
    for change in ({"context": 64}, {"prepend_bos": False}, {"held_out_share": 0.5}):
        assert fingerprint(dataclasses.replace(base, **change)) == fingerprint(base)


def of_hub(**options) -> str:
    return fingerprint(DataOptions(corpus=HubOptions(**{"dataset": "owner/name", "revision": "v1", **options})))


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "owner/other"},
        {"revision": "v2"},
        {"config": "en"},
        {"split": "test"},
        {"text_field": "body"},
        {"max_documents": 10},
    ],
)
def test_a_hub_corpus_is_what_is_read_of_it(change: dict):
    assert of_hub(**change) != of_hub()


def test_how_a_hub_corpus_is_read_does_not_matter():
    assert of_hub(streaming=False) == of_hub(streaming=True)


def test_a_local_hub_directory_is_its_content(tmp_path: Path):
    write_texts(tmp_path / "a", TEXTS)
    first = of_hub(dataset=str(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert of_hub(dataset=str(tmp_path / "b"), revision="other") == first
    (tmp_path / "b/00000.txt").write_text("changed")
    assert of_hub(dataset=str(tmp_path / "b")) != first


def test_a_missing_file_is_an_error(tmp_path: Path):
    with pytest.raises(CorpusError, match=r"data\.corpus\.paths"):
        of_files(tmp_path / "none.txt")


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files that were just written count as old."""
    now = time.time_ns()
    monkeypatch.setattr(module.time, "time_ns", lambda: now + 10**10)


def test_unchanged_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    options = DataOptions(corpus=FilesOptions(paths=(str(write_texts(tmp_path / "a", TEXTS)),)))
    settle(monkeypatch)
    first = fingerprint(options, tmp_path / "cache")
    monkeypatch.setattr(module.hashlib, "file_digest", None)
    assert fingerprint(options, tmp_path / "cache") == first


def test_a_changed_file_is_hashed_again_even_with_its_old_size_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = write_texts(tmp_path / "a", TEXTS)
    options = DataOptions(corpus=FilesOptions(paths=(str(root),)))
    settle(monkeypatch)
    first = fingerprint(options, tmp_path / "cache")
    old = (root / "00002.txt").stat()
    time.sleep(0.02)  # the clock of change times ticks every few milliseconds
    (root / "00002.txt").write_text(TEXTS[2].upper())
    os.utime(root / "00002.txt", ns=(old.st_atime_ns, old.st_mtime_ns))
    assert fingerprint(options, tmp_path / "cache") != first


def test_a_file_that_was_just_written_is_not_trusted(tmp_path: Path):
    path = tmp_path / "x"
    path.write_text("now")
    hashes = FileHashes(tmp_path / "cache")
    hashes.sha256(path)
    hashes.remember()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_store_of_hashes_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes, caplog: pytest.LogCaptureFixture
):
    options = DataOptions(corpus=FilesOptions(paths=(str(write_texts(tmp_path / "a", TEXTS)),)))
    settle(monkeypatch)
    first = fingerprint(options, tmp_path / "cache")
    store = tmp_path / "cache/file_hashes.json"
    store.write_bytes(damage)
    assert fingerprint(options, tmp_path / "cache") == first
    assert f"{store} in a cache is damaged" in caplog.text
    caplog.clear()
    assert fingerprint(options, tmp_path / "cache") == first
    assert not caplog.records


def test_a_tokenizer_file_is_its_content(tmp_path: Path):
    for name, text in (("a.json", "{}"), ("b.json", "{}"), ("c.json", "[]")):
        (tmp_path / name).write_text(text)
    a, b, c = (
        tokenizer_fingerprint(TokenizerOptions(name="pretrained", source=str(tmp_path / name)))
        for name in ("a.json", "b.json", "c.json")
    )
    assert a == b != c


def test_tokenizers_differ_by_what_makes_them():
    hub = TokenizerOptions(name="pretrained", source="owner/name", revision="v1")
    found = {
        tokenizer_fingerprint(options)
        for options in (
            TokenizerOptions(),
            TokenizerOptions(vocab_size=512),
            TokenizerOptions(training_documents=5),
            hub,
            dataclasses.replace(hub, revision="v2"),
        )
    }
    assert len(found) == 5


def test_a_tokenizer_on_the_hub_needs_a_revision():
    with pytest.raises(CorpusError, match=r"data\.tokenizer\.revision: give a commit or tag of owner/name"):
        tokenizer_fingerprint(TokenizerOptions(name="pretrained", source="owner/name"))
