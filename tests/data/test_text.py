"""Windows of text: training ones cover the stream, held-out ones lie inside one document that is never trained on."""

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest

from induction_bump.data.corpus import prepare
from induction_bump.data.errors import CorpusError
from induction_bump.data.options import DataOptions, FilesOptions, TokenizerOptions
from induction_bump.data.sections import is_held_out
from induction_bump.data.shards import HELD_OUT, TRAINING
from induction_bump.data.text import TextCorpus
from induction_bump.data.tokenizer import from_json
from tests.data.conftest import make_texts, write_texts


@pytest.fixture
def corpus(text_options: DataOptions, tmp_path: Path) -> TextCorpus:
    found = prepare(text_options, tmp_path / "cache")
    assert isinstance(found, TextCorpus)
    return found


def stream_of(corpus: TextCorpus, split: str) -> np.ndarray:
    stream = corpus.shards.stream(split)
    return stream.read(np.array([0]), len(stream))[0]


def documents_of(corpus: TextCorpus, split: str) -> list[list[int]]:
    stream = stream_of(corpus, split)
    ends = np.append(np.flatnonzero(stream == corpus.bos), len(stream))
    return [part[part != corpus.bos].tolist() for part in np.split(stream, ends[:-1])]


def test_tokens_decode_to_the_documents_of_each_part(corpus: TextCorpus):
    tokenizer = from_json((corpus.shards.directory / "tokenizer.json").read_text())
    texts = make_texts(60)
    for split, held_out in ((TRAINING, False), (HELD_OUT, True)):
        expected = [text for text in texts if is_held_out(text, 0.2) == held_out]
        assert [tokenizer.decode(ids) for ids in documents_of(corpus, split)] == expected
        assert len(expected) > 3


def test_an_epoch_of_windows_covers_the_stream_once(corpus: TextCorpus):
    T, stream = corpus.context, stream_of(corpus, TRAINING)
    count = corpus.windows_per_epoch
    assert count == len(stream) // T
    windows = corpus.windows(np.arange(count), seed=4)
    assert windows.shape == (count, T + 1)
    assert (windows[:, 0] == corpus.bos).all()
    expected = sorted(stream[w * T : w * T + T].tolist() for w in range(count))
    assert sorted(row.tolist() for row in windows[:, 1:]) == expected


def test_without_bos_neighbouring_windows_share_one_token(text_options: DataOptions, tmp_path: Path):
    corpus = prepare(dataclasses.replace(text_options, prepend_bos=False), tmp_path / "cache")
    assert isinstance(corpus, TextCorpus)
    T, stream = corpus.context, stream_of(corpus, TRAINING)
    count = corpus.windows_per_epoch
    assert count == (len(stream) - 1) // T
    expected = sorted(stream[w * T : w * T + T + 1].tolist() for w in range(count))
    assert sorted(row.tolist() for row in corpus.windows(np.arange(count), seed=4)) == expected
    held_out = corpus.held_out(5, T, 0).tokens
    assert held_out.shape == (5, T + 1)
    assert (held_out != corpus.bos).all()


def test_a_window_is_a_function_of_seed_and_index(corpus: TextCorpus):
    together = corpus.windows(np.arange(500), seed=1)
    assert np.array_equal(corpus.windows(np.array([444, 3]), seed=1), together[[444, 3]])
    assert not np.array_equal(corpus.windows(np.arange(500), seed=2), together)


def test_a_corpus_that_was_sent_to_another_process_gives_the_same_windows(corpus: TextCorpus):
    expected = corpus.windows(np.arange(10), 0)
    assert np.array_equal(pickle.loads(pickle.dumps(corpus)).windows(np.arange(10), 0), expected)


@pytest.mark.parametrize("examples", [2, 10, 40])
def test_held_out_windows_lie_inside_one_document_and_never_overlap(corpus: TextCorpus, examples: int):
    held_out = corpus.held_out(examples, 50, seed=9)
    documents = documents_of(corpus, HELD_OUT)
    assert held_out.tokens.shape == (examples, 51)
    assert held_out.document.dtype == np.int32
    assert (held_out.tokens[:, 0] == corpus.bos).all()
    taken: set[tuple[int, int]] = set()
    for window, document in zip(held_out.tokens[:, 1:].tolist(), held_out.document.tolist(), strict=True):
        ids = documents[document]
        # the documents' words are random, so a window of 50 occurs once
        (start,) = [s for s in range(len(ids) - 49) if ids[s : s + 50] == window]
        places = {(document, place) for place in range(start, start + 50)}
        assert not places & taken
        taken |= places


def test_one_window_a_document_comes_first(corpus: TextCorpus):
    count = corpus.shards.stream(HELD_OUT).documents
    held_out = corpus.held_out(2 * count, 50, seed=9)
    assert sorted(held_out.document[:count].tolist()) == list(range(count))
    assert sorted(held_out.document[count:].tolist()) == list(range(count))


def test_a_probe_is_a_function_of_its_seed(corpus: TextCorpus):
    first = corpus.held_out(10, 50, seed=9)
    assert np.array_equal(first.tokens, corpus.held_out(10, 50, seed=9).tokens)
    assert not np.array_equal(first.tokens, corpus.held_out(10, 50, seed=8).tokens)


def test_too_few_held_out_windows_is_an_error_that_says_how_many(corpus: TextCorpus):
    with pytest.raises(CorpusError, match=r"^measures\.held_out\.examples=100000: .* room for (\d+) windows") as caught:
        corpus.held_out(100_000, 50, 0)
    most = int(str(caught.value).split("room for ")[1].split()[0])
    assert corpus.held_out(most, 50, 0).tokens.shape == (most, 51)
    with pytest.raises(CorpusError):
        corpus.held_out(most + 1, 50, 0)


def test_frequencies_are_those_of_training_text(corpus: TextCorpus):
    counts = np.bincount(stream_of(corpus, TRAINING), minlength=300).astype(float)
    counts[corpus.bos] = 0
    assert np.allclose(corpus.frequencies, counts / counts.sum())
    assert corpus.vocab_size == len(corpus.frequencies) == 300


def test_duplicates_never_stand_on_both_sides(tmp_path: Path, text_options: DataOptions):
    write_texts(tmp_path / "twice", make_texts(40) * 3)
    options = dataclasses.replace(
        text_options, corpus=FilesOptions(paths=(str(tmp_path / "twice"),)), held_out_share=0.4
    )
    corpus = prepare(options, tmp_path / "cache")
    assert isinstance(corpus, TextCorpus)
    training, held_out = ({tuple(ids) for ids in documents_of(corpus, split)} for split in (TRAINING, HELD_OUT))
    assert not training & held_out
    assert len(training) + len(held_out) == 40


def test_the_held_out_share_is_about_what_was_asked_for_and_only_grows():
    texts = make_texts(4000, words=3)
    small, large = ({text for text in texts if is_held_out(text, share)} for share in (0.05, 0.3))
    assert small < large
    assert abs(len(small) / 4000 - 0.05) < 0.02
    assert abs(len(large) / 4000 - 0.3) < 0.04


def few_books(tmp_path: Path, count: int, **options) -> DataOptions:
    """Books of two sections each, all different."""
    directory = write_texts(tmp_path / f"{count} books", make_texts(count, words=8_000))
    return DataOptions(
        corpus=FilesOptions(paths=(str(directory),)),
        tokenizer=TokenizerOptions(vocab_size=300),
        context=32,
        held_out_share=0.5,
        **options,
    )


@pytest.mark.parametrize("books", [5, 40])
def test_few_long_documents_are_held_out_by_sections_that_are_never_trained_on(
    tmp_path: Path, books: int, caplog: pytest.LogCaptureFixture
):
    corpus = prepare(few_books(tmp_path, books, held_out_by="sections"), tmp_path / "cache")
    assert isinstance(corpus, TextCorpus)
    stream = corpus.shards.stream(HELD_OUT)
    sections = documents_of(corpus, HELD_OUT)
    assert len(sections) == stream.documents
    tokenizer = from_json((corpus.shards.directory / "tokenizer.json").read_text())
    texts = make_texts(books, words=8_000)
    for ids, source in zip(sections, stream.sources.tolist(), strict=True):
        assert tokenizer.decode(ids) in texts[source]
    trained_on = "\0".join(tokenizer.decode(ids) for ids in documents_of(corpus, TRAINING))
    assert not any(tokenizer.decode(ids) in trained_on for ids in sections)
    held_out = corpus.held_out(100, 32, seed=0)
    if books == 40:  # enough for standard errors over documents
        assert set(held_out.document.tolist()) == set(stream.sources.tolist())
        assert not caplog.records
    else:
        assert set(held_out.document.tolist()) == set(range(stream.documents))
        assert f"documents only; standard errors are over {stream.documents} sections" in caplog.text


def test_few_held_out_documents_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    corpus = prepare(few_books(tmp_path, 8, held_out_by="documents"), tmp_path / "cache")
    assert isinstance(corpus, TextCorpus)
    count = corpus.shards.stream(HELD_OUT).documents
    assert f"only {count} documents are held out" in caplog.text
    assert "data.held_out_by=sections holds out parts of long documents" in caplog.text


def test_documents_without_room_for_sections_give_the_same_streams(text_options: DataOptions, tmp_path: Path):
    whole, sections = (
        prepare(dataclasses.replace(text_options, held_out_by=by), tmp_path / "cache")
        for by in ("documents", "sections")
    )
    assert isinstance(whole, TextCorpus)
    assert isinstance(sections, TextCorpus)
    assert whole.shards.directory != sections.shards.directory
    for split in (TRAINING, HELD_OUT):
        assert np.array_equal(stream_of(whole, split), stream_of(sections, split))
