"""Tokenising in processes gives what one process gives, reads little ahead, and leaves no process behind."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from induction_bump.data import tokenise as module
from induction_bump.data.options import TokenizerOptions
from induction_bump.data.tokenise import BatchTokeniser, tokenise
from induction_bump.data.tokenizer import train_bpe
from induction_bump.pools import WorkerLostError
from tests.data.conftest import make_texts, write_texts

TEXTS = make_texts(60)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 3000)


@pytest.fixture
def tokeniser() -> BatchTokeniser:
    tokenizer = train_bpe(TEXTS, TokenizerOptions(vocab_size=300))
    return BatchTokeniser(tokenizer.to_str(), bos=0, dtype="<u2", held_out_share=0.3)


def joined(batches: list[module.TokenisedBatch]) -> dict[str, tuple[list[int], list[int]]]:
    return {
        split: tuple(np.concatenate([batch.streams[split][part] for batch in batches]).tolist() for part in (0, 1))
        for split in ("train", "held_out")
    }


@pytest.mark.processes
def test_processes_give_the_same_tokens_in_the_same_order(tokeniser: BatchTokeniser):
    alone = list(tokenise(TEXTS, tokeniser, 1))
    together = list(tokenise(TEXTS, tokeniser, 2))
    assert len(alone) > 2 * 8
    assert joined(alone) == joined(together)
    assert sum(batch.bytes for batch in together) == sum(len(text.encode()) for text in TEXTS)
    assert sum(batch.tokens for batch in together) == sum(sum(lengths) for _, lengths in joined(alone).values())


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.processes)])
def test_memory_does_not_grow_with_the_corpus(tokeniser: BatchTokeniser, processes: int):
    read = 0

    def documents() -> Iterator[str]:
        nonlocal read
        for text in TEXTS * 10:
            read += len(text)
            yield text

    done = ahead = 0
    for batch in tokenise(documents(), tokeniser, processes):
        ahead = max(ahead, read - done)
        done += batch.bytes
    assert read > 500_000
    # the first eight batches are gathered, and then two a process and one more are on their way
    assert ahead < 16 * 4500


@pytest.mark.processes
def test_a_process_that_is_killed_is_told_of_in_a_line(tokeniser: BatchTokeniser):
    batches = tokenise(TEXTS * 10, tokeniser, 2)
    next(batches)
    for process in psutil.Process().children():
        if "spawn_main" in " ".join(process.cmdline()):
            process.kill()
    with pytest.raises(WorkerLostError, match=r"^a process that tokenises was killed \(out of memory\?\): "):
        list(batches)


PLAIN = """
import pathlib, sys
from induction_bump.data import build, tokenise
from induction_bump.data.corpus import prepare
from induction_bump.data.options import DataOptions, FilesOptions, TokenizerOptions

tokenise._BATCH = 3000
build.available_cores = lambda: 2
texts, cache = sys.argv[1:]
options = DataOptions(corpus=FilesOptions(paths=(texts,)), tokenizer=TokenizerOptions(vocab_size=280), context=32)
print(prepare(options, pathlib.Path(cache), progress=False).vocab_size)
"""


@pytest.mark.processes
def test_a_plain_script_prepares_a_corpus(tmp_path: Path):
    write_texts(tmp_path / "texts", TEXTS)
    (tmp_path / "plain.py").write_text(PLAIN)
    command = [sys.executable, "plain.py", "texts", "cache"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "280\n"), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.processes
def test_workers_end_when_their_parent_is_killed(tmp_path: Path):
    mark = tmp_path / "mark"
    script = tmp_path / "parent.py"
    script.write_text(
        f"""
import pathlib, time
from induction_bump.data import tokenise as module
from induction_bump.data.options import TokenizerOptions
from induction_bump.data.tokenizer import train_bpe

if __name__ == "__main__":
    module._BATCH = 100
    texts = [f"{{n}} some words and some more words" for n in range(200)]
    tokenizer = train_bpe(texts, TokenizerOptions(vocab_size=260))
    tokeniser = module.BatchTokeniser(tokenizer.to_str(), 0, "<u2", 0.3)
    for batch in module.tokenise(texts, tokeniser, 2):
        pathlib.Path({str(mark)!r}).touch()
        time.sleep(60)
"""
    )
    parent = subprocess.Popen([sys.executable, str(script)])
    try:
        wait_for(mark.exists)
        workers = psutil.Process(parent.pid).children(recursive=True)
        assert len(workers) >= 2
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
