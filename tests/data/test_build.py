"""The cache of shards: built once, found again, whole or not at all, whoever else builds or is killed meanwhile."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from induction_bump.data import build as module
from induction_bump.data.build import find_or_build
from induction_bump.data.building import locked
from induction_bump.data.errors import CorpusError
from induction_bump.data.options import DataOptions, PythonSourceOptions, TokenizerOptions
from induction_bump.data.shards import Shards
from tests.damage import DAMAGE
from tests.data.conftest import make_texts, write_texts

# A builder that tells where it is, and reads text files without `datasets`, which takes long to import. Its arguments:
# options, cache, a file to touch when it builds, and seconds to pause after the first batch.
BUILDER = """
import pathlib, sys, time
from pydantic import TypeAdapter
from induction_bump.data import build
from induction_bump.data.documents import local_files
from induction_bump.data.options import DataOptions

options, cache, mark, pause = sys.argv[1:]
real = build.tokenise

def tokenise(*arguments):
    for batch in real(*arguments):
        yield batch
        print("building", flush=True)
        pathlib.Path(mark).touch()
        time.sleep(float(pause))

class Texts(list):
    bytes = None

build.open_documents = lambda corpus: Texts(path.read_text() for path in local_files(corpus))
build.tokenise = tokenise
if __name__ == "__main__":
    shards = build.find_or_build(TypeAdapter(DataOptions).validate_json(options), pathlib.Path(cache))
    print(shards.directory)
"""


def start(options: DataOptions, tmp_path: Path, name: str, pause: float) -> subprocess.Popen[str]:
    script = tmp_path / "builder.py"
    script.write_text(BUILDER)
    as_json = TypeAdapter(DataOptions).dump_json(options).decode()
    arguments = [as_json, str(tmp_path / "cache"), str(tmp_path / name), str(pause)]
    return subprocess.Popen(
        [sys.executable, str(script), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_shards_are_found_again_without_reading_the_documents(
    text_options: DataOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = find_or_build(text_options, tmp_path / "cache")
    monkeypatch.setattr(module, "open_documents", None)
    assert find_or_build(text_options, tmp_path / "cache").manifest == first.manifest


def test_the_same_corpus_gives_the_same_files_wherever_it_lies(text_options: DataOptions, tmp_path: Path):
    first = find_or_build(text_options, tmp_path / "cache")
    moved = write_texts(tmp_path / "moved", make_texts(60))
    corpus = dataclasses.replace(text_options.corpus, paths=(str(moved),))
    second = find_or_build(dataclasses.replace(text_options, corpus=corpus), tmp_path / "other")
    assert second.directory.name == first.directory.name
    assert content(second.directory) == content(first.directory)


@pytest.mark.parametrize(
    "change", [{"held_out_share": 0.4}, {"held_out_by": "sections"}, {"tokenizer": TokenizerOptions(vocab_size=290)}]
)
def test_what_changes_the_tokens_changes_the_directory(text_options: DataOptions, tmp_path: Path, change: dict):
    first = find_or_build(text_options, tmp_path / "cache")
    assert find_or_build(dataclasses.replace(text_options, **change), tmp_path / "cache").directory != first.directory


@pytest.mark.parametrize("change", [{"context": 16}, {"prepend_bos": False}])
def test_how_windows_are_cut_does_not(text_options: DataOptions, tmp_path: Path, change: dict):
    first = find_or_build(text_options, tmp_path / "cache")
    assert find_or_build(dataclasses.replace(text_options, **change), tmp_path / "cache").directory == first.directory


def test_damaged_shards_are_built_again(text_options: DataOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    first = find_or_build(text_options, tmp_path / "cache")
    before = content(first.directory)
    os.truncate(first.directory / "train-00000.bin", 10)
    find_or_build(text_options, tmp_path / "cache")
    assert content(first.directory) == before
    assert "train-00000.bin has 10 bytes" in caplog.text


@pytest.mark.parametrize(
    ("name", "damage"),
    [("manifest.json", damage) for damage in DAMAGE.values()]
    + [(name, DAMAGE["cut"]) for name in ("tokenizer.json", "train-00000.bin", "unigrams.bin")],
)
def test_shards_with_a_file_of_another_kind_are_built_again_and_said_to_be_damaged(
    text_options: DataOptions, tmp_path: Path, name: str, damage: bytes, caplog: pytest.LogCaptureFixture
):
    first = find_or_build(text_options, tmp_path / "cache")
    before = content(first.directory)
    (first.directory / name).write_bytes(damage)
    assert content(find_or_build(text_options, tmp_path / "cache").directory) == before
    assert caplog.text.count(f"{first.directory} in a cache is damaged") == 1
    caplog.clear()
    find_or_build(text_options, tmp_path / "cache")
    assert "is damaged" not in caplog.text


def test_shards_that_the_system_refuses_to_read_stay_as_they_are(
    text_options: DataOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = find_or_build(text_options, tmp_path / "cache")
    before = content(first.directory)

    def refused(self: Path, *_: object, **__: object) -> str:
        raise OSError(116, "Stale file handle", str(self))

    monkeypatch.setattr(module, "fingerprint", lambda *_: first.manifest["corpus"])
    for opened in (Shards, lambda _: find_or_build(text_options, tmp_path / "cache")):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_text", refused)
            with pytest.raises(OSError, match="Stale file handle") as caught:
                opened(first.directory)
        assert caught.value.errno == 116
    assert content(first.directory) == before


def test_a_builder_that_fails_leaves_nothing(
    text_options: DataOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/cache/corpora/[^.]*'"):
        find_or_build(text_options, tmp_path / "cache")
    assert list((tmp_path / "cache/corpora").iterdir()) == []


def test_a_corpus_that_is_refused_leaves_nothing(text_options: DataOptions, tmp_path: Path):
    options = dataclasses.replace(text_options, tokenizer=TokenizerOptions(vocab_size=50_000))
    with pytest.raises(CorpusError, match="more than the corpus can give"):
        find_or_build(options, tmp_path / "cache")
    assert list((tmp_path / "cache/corpora").iterdir()) == []


def test_undecodable_text_is_refused_though_shards_without_it_are_there(text_options: DataOptions, tmp_path: Path):
    (tmp_path / "texts/00007.txt").write_bytes("grün".encode("latin-1"))
    skipped = find_or_build(text_options, tmp_path / "cache")
    corpus = dataclasses.replace(text_options.corpus, undecodable="refuse")
    with pytest.raises(CorpusError, match=r"undecodable=refuse: .*/00007\.txt cannot be decoded"):
        find_or_build(dataclasses.replace(text_options, corpus=corpus), tmp_path / "cache")
    assert list((tmp_path / "cache/corpora").iterdir()) == [skipped.directory]


def test_a_corpus_that_is_built_leaves_its_shards_alone(text_options: DataOptions, tmp_path: Path):
    shards = find_or_build(text_options, tmp_path / "cache")
    assert list((tmp_path / "cache/corpora").iterdir()) == [shards.directory]


def test_never_two_hold_the_lock_though_its_file_comes_and_goes(tmp_path: Path):
    """Whoever was waiting on a file that has been removed must not take it for the lock."""
    path, inside, most, done = tmp_path / "a.lock", [], [], []

    def work() -> None:
        for _ in range(50):
            with locked(path):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.pop()
        done.append(1)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 6
    assert set(most) == {1}
    assert not path.exists()


@pytest.mark.processes
def test_two_at_once_build_once(text_options: DataOptions, tmp_path: Path):
    first = start(text_options, tmp_path, "first", pause=3)
    wait_for(tmp_path / "first", first)
    second = start(text_options, tmp_path, "second", pause=0)
    results = [process.communicate(timeout=60) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], results
    (built, _), (found, said) = results
    assert built.split()[:-1] == ["building"]
    assert found.split() == built.split()[-1:]
    assert "another process is tokenising this corpus" in said


@pytest.mark.processes
def test_a_builder_that_was_killed_half_way_is_followed_by_one_that_finishes(text_options: DataOptions, tmp_path: Path):
    killed = start(text_options, tmp_path, "first", pause=600)
    wait_for(tmp_path / "first", killed)
    waiting = start(text_options, tmp_path, "second", pause=0)
    time.sleep(0.2)
    (partial,) = (tmp_path / "cache/corpora").glob(".*.tmp")
    (partial / "left over").touch()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    out, error = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, error
    assert out.split()[0] == "building"
    assert not partial.exists()
    undisturbed = find_or_build(text_options, tmp_path / "undisturbed")
    assert content(Path(out.split()[-1])) == content(undisturbed.directory)


def test_a_pretrained_tokenizer_is_taken_as_it_is(text_options: DataOptions, tmp_path: Path):
    source = find_or_build(text_options, tmp_path / "cache").directory / "tokenizer.json"
    options = dataclasses.replace(text_options, tokenizer=TokenizerOptions(name="pretrained", source=str(source)))
    shards = find_or_build(options, tmp_path / "cache")
    assert shards.directory != source.parent
    assert (shards.directory / "tokenizer.json").read_bytes() == source.read_bytes()
    source.unlink()
    with pytest.raises(CorpusError, match=r"data\.tokenizer\.source"):
        find_or_build(options, tmp_path / "cache")


@pytest.fixture
def little_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataOptions:
    root = tmp_path / "lib"
    root.mkdir()
    for number, text in enumerate(make_texts(60)):
        (root / f"m{number}.py").write_text(f"# {text}")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(root))
    return DataOptions(corpus=PythonSourceOptions(), tokenizer=TokenizerOptions(vocab_size=290), context=32)


def test_little_source_is_warned_of_every_time(
    little_library: DataOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    for _ in range(2):
        caplog.clear()
        find_or_build(little_library, tmp_path / "cache")
        assert "only 0.1 MB of source here, less than 25 MB" in caplog.text


def test_enough_source_is_not_warned_of(
    little_library: DataOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "LITTLE_SOURCE", 1000)
    find_or_build(little_library, tmp_path / "cache")
    assert "of source here" not in caplog.text


MEASURE = """
import pathlib, resource, sys
from induction_bump.data.corpus import prepare
from induction_bump.data.options import DataOptions, FilesOptions, TokenizerOptions

if __name__ == "__main__":
    options = DataOptions(
        corpus=FilesOptions(paths=(sys.argv[1],), format="jsonl"),
        tokenizer=TokenizerOptions(vocab_size=280, training_documents=200),
        context=64,
    )
    prepare(options, pathlib.Path(sys.argv[2]), progress=False)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.processes
def test_peak_memory_is_that_of_a_corpus_less_than_half_as_large(tmp_path: Path):
    script = tmp_path / "measure.py"
    script.write_text(MEASURE)
    peaks = []
    for megabytes in (40, 100):  # the JSON reader's own chunks stop growing before 40
        random = np.random.default_rng(0)
        path = tmp_path / f"{megabytes}.jsonl"
        with path.open("w") as file:
            for _ in range(megabytes * 100):
                text = " ".join(map(str, random.integers(0, 50, 3500)))
                file.write(f'{{"text": "{text}"}}\n')
        found = subprocess.check_output([sys.executable, str(script), str(path), str(tmp_path / "cache")], text=True)
        peaks.append(int(found) / 1024)
    assert peaks[1] - peaks[0] < 30, f"peaks in MB: {peaks}"
    assert len(list((tmp_path / "cache/corpora").glob("*/manifest.json"))) == 2
    assert all(Shards(path.parent) for path in (tmp_path / "cache/corpora").glob("*/manifest.json"))
