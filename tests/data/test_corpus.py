"""`prepare` gives every corpus the same face, and refuses what cannot be trained on, leaving nothing behind."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from induction_bump.data.corpus import prepare
from induction_bump.data.errors import CorpusError
from induction_bump.data.options import DataOptions, FilesOptions, RepeatsOptions, TokenizerOptions, TriggersOptions
from tests.data.conftest import make_texts, write_texts


@pytest.fixture(params=["repeats", "triggers", "text"])
def options(request: pytest.FixtureRequest, text_options: DataOptions) -> DataOptions:
    return {
        "repeats": DataOptions(corpus=RepeatsOptions(first_copy=20, segment=(4, 8)), context=32),
        "triggers": DataOptions(corpus=TriggersOptions(), context=32),
        "text": text_options,
    }[request.param]


def test_every_corpus_has_the_same_face(options: DataOptions, tmp_path: Path):
    corpus = prepare(options, tmp_path / "cache")
    windows = corpus.windows(np.arange(6), 0)
    assert windows.shape == (6, options.context + 1)
    assert windows.dtype == np.int64
    assert 0 <= windows.min() <= windows.max() < corpus.vocab_size
    assert corpus.bos in corpus.special_tokens
    assert corpus.frequencies.shape == (corpus.vocab_size,)
    assert corpus.frequencies.sum() == pytest.approx(1)
    assert not corpus.frequencies[list(corpus.special_tokens)].any()
    assert len(corpus.decode(windows[0])) == options.context + 1
    assert (corpus.tokenizer_hash == "none") == (not options.is_text)
    held_out = corpus.held_out(5, 20, seed=1)
    assert held_out.tokens.shape == (5, 21)
    assert held_out.document.shape == (5,)
    assert (held_out.triggers is None) == (options.corpus.name != "triggers")


def test_preparing_again_gives_the_same_corpus(options: DataOptions, tmp_path: Path):
    first, second = prepare(options, tmp_path / "cache"), prepare(options, tmp_path / "cache")
    assert first.fingerprint == second.fingerprint
    assert first.tokenizer_hash == second.tokenizer_hash
    assert np.array_equal(first.windows(np.arange(5), 3), second.windows(np.arange(5), 3))


def test_training_never_makes_a_held_out_window(options: DataOptions, tmp_path: Path):
    corpus = prepare(options, tmp_path / "cache")
    seen = {tuple(row) for seed in range(5) for row in corpus.windows(np.arange(400), seed).tolist()}
    assert not seen & {tuple(row) for row in corpus.held_out(5, options.context, seed=0).tokens.tolist()}


def test_triggers_of_held_out_windows_are_those_that_made_them(tmp_path: Path):
    held_out = prepare(DataOptions(corpus=TriggersOptions()), tmp_path).held_out(50, 400, seed=2)
    assert held_out.triggers is not None
    for window, triggers in zip(held_out.tokens, held_out.triggers, strict=True):
        for trigger in triggers.tolist():
            assert len(set(window[1:][np.flatnonzero(window[:-1] == trigger)].tolist())) <= 1


def test_probe_triggers_are_a_function_of_the_seed(tmp_path: Path):
    corpus = prepare(DataOptions(corpus=TriggersOptions()), tmp_path)
    triggers = corpus.probe_triggers(8, 1)
    assert triggers is not None
    assert triggers.shape == (8, 5)
    assert np.array_equal(triggers, corpus.probe_triggers(8, 1))
    assert prepare(DataOptions(corpus=RepeatsOptions()), tmp_path).probe_triggers(8, 1) is None


def refused(options: DataOptions, cache: Path, pattern: str) -> None:
    with pytest.raises(CorpusError, match=pattern) as caught:
        prepare(options, cache, progress=False)
    assert "\n" not in str(caught.value)
    assert not [path for path in cache.rglob("*") if path.suffix not in (".lock", ".json") and path.name != "corpora"]


def changed(options: DataOptions, **corpus) -> DataOptions:
    return dataclasses.replace(options, corpus=FilesOptions(**corpus))


def test_a_vocabulary_larger_than_the_corpus_can_give(text_options: DataOptions, tmp_path: Path):
    options = dataclasses.replace(text_options, tokenizer=TokenizerOptions(vocab_size=40_000))
    refused(options, tmp_path / "cache", r"^data\.tokenizer\.vocab_size=40000 .* at most \d+$")


def test_a_held_out_part_without_documents(text_options: DataOptions, tmp_path: Path):
    options = dataclasses.replace(text_options, held_out_share=1e-9)
    refused(
        options, tmp_path / "cache", r"^data\.held_out_share=1e-09: the held-out part of 60 documents is empty; raise"
    )


def test_a_training_part_without_documents(text_options: DataOptions, tmp_path: Path):
    write_texts(tmp_path / "x", make_texts(3, words=5))
    options = changed(text_options, paths=(str(tmp_path / "x"),))
    options = dataclasses.replace(options, held_out_share=0.999999, tokenizer=TokenizerOptions(vocab_size=258))
    refused(
        options,
        tmp_path / "cache",
        r"^data\.held_out_share=0\.999999: the training part of 3 documents is empty; lower",
    )


def test_a_corpus_of_blank_text(text_options: DataOptions, tmp_path: Path):
    write_texts(tmp_path / "x", [" \n", "\n\n"])
    refused(changed(text_options, paths=(str(tmp_path / "x"),)), tmp_path / "cache", r"^data\..*there is no text in it")


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", r"^data\.corpus\.paths: .*00002\.txt is empty"), (b"caf\xe9", r"undecodable=refuse: .*00002\.txt cannot")],
)
def test_empty_and_undecodable_files(text_options: DataOptions, tmp_path: Path, data: bytes, reason: str):
    write_texts(tmp_path / "x", make_texts(5))
    (tmp_path / "x/00002.txt").write_bytes(data)
    options = changed(text_options, paths=(str(tmp_path / "x"),), undecodable="refuse")
    refused(options, tmp_path / "cache", reason)


def test_a_missing_file(text_options: DataOptions, tmp_path: Path):
    refused(changed(text_options, paths=("nowhere/*.txt",)), tmp_path / "cache", r"^data\.corpus\.paths: 'nowhere/")


def test_a_corpus_shorter_than_one_window(text_options: DataOptions, tmp_path: Path):
    options = dataclasses.replace(text_options, context=1_000_000)
    with pytest.raises(
        CorpusError, match=r"^data\.context=1000000: a window takes 1000000 tokens, .* has \d+; shorten"
    ):
        prepare(options, tmp_path / "cache")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DataOptions(corpus=RepeatsOptions(), context=30), "first_copy=40 lies past context=30"),
        (lambda: RepeatsOptions(segment=(50, 60)), "longer than what lies before first_copy"),
        (lambda: RepeatsOptions(gap=(5, 4)), "shortest ≤ longest"),
        (lambda: TriggersOptions(triggers=64), "leaves no other token"),
        (lambda: TokenizerOptions(source="x"), "source=x is for name=pretrained"),
    ],
)
def test_options_that_contradict_each_other(make, message: str):
    with pytest.raises(ValidationError, match=message):
        make()


def test_without_copies_a_context_may_be_short(tmp_path: Path):
    corpus = prepare(DataOptions(corpus=RepeatsOptions(copy_share=0.0), context=8), tmp_path)
    assert corpus.windows(np.arange(2), 0).shape == (2, 9)


def test_the_package_loads_nothing_heavy():
    code = (
        "import sys, induction_bump.data.corpus, induction_bump.data.dataset, induction_bump.data.fingerprint\n"
        "heavy = {'torch', 'lightning', 'pytorch_lightning', 'datasets', 'tokenizers', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
