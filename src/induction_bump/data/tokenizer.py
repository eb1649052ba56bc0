"""Text to tokens: a byte-level BPE trained on the corpus, or a pretrained tokenizer as it is.

Notable features:
- special tokens written out in a text are encoded as ordinary text, so that no document holds a BOS of its own;
- a pretrained tokenizer's truncation and padding are switched off, and nothing is added around a document;
- the same documents always give the same tokenizer.
"""

import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from induction_bump.data.errors import CorpusError
from induction_bump.data.fingerprint import tokenizer_file
from induction_bump.data.options import MIN_VOCAB_SIZE, TokenizerOptions

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import PreTokenizer

LONGEST_WORD = 1000
"""Characters; a tokenizer is trained on longer words (text without blanks: DNA, base64) in pieces of this length."""

BOS_TEXT = "<|bos|>"
_BEGINNINGS = (BOS_TEXT, "<|begin_of_text|>", "<|startoftext|>", "<bos>", "<s>", "[BOS]")
_ENDS = ("<|endoftext|>", "<|end_of_text|>", "<eos>", "</s>", "[EOS]")


@dataclass(frozen=True)
class TokenizerInfo:
    """What the rest of the project needs to know about a tokenizer."""

    hash: str
    """sha256 of its canonical JSON."""
    vocab_size: int
    """Highest id + 1."""
    bos: int
    """Id of the token that begins a document."""
    special_tokens: tuple[int, ...]
    """Ids that stand for no text."""


def train_bpe(texts: Iterable[str], options: TokenizerOptions) -> "Tokenizer":
    """A byte-level BPE of exactly `vocab_size` tokens. Raises CorpusError where the texts cannot give so many."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    # Without a word on it, `tokenizers` warns in every process forked from this one from now on.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    tokenizer = Tokenizer(models.BPE())
    words = tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=options.vocab_size,
        min_frequency=2,
        special_tokens=[BOS_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    _hearing_signals(lambda texts: tokenizer.train_from_iterator(texts, trainer), _without_long_words(texts, words))
    given = tokenizer.get_vocab_size()
    if given < MIN_VOCAB_SIZE:
        raise CorpusError("data.corpus: there is too little text in it to train a tokenizer on; give more")
    if given < options.vocab_size:
        raise CorpusError(
            f"data.tokenizer.vocab_size={options.vocab_size} is more than the corpus can give: at most {given}"
        )
    return tokenizer


def _without_long_words(texts: Iterable[str], words: "PreTokenizer") -> Iterator[str]:
    """The same words in the same order, long ones cut: counting pairs takes time in the square of a word's length."""
    # looked for from the beginnings of runs only, so that each is gone through once
    may_be_long = re.compile(rf"(?<!\S)\S{{{LONGEST_WORD}}}|(?<!\s)\s{{{LONGEST_WORD}}}")
    for text in texts:
        start = 0
        if may_be_long.search(text):
            for _, (begin, end) in words.pre_tokenize_str(text):
                for cut in range(begin + LONGEST_WORD, end, LONGEST_WORD):
                    yield text[start:cut]
                    start = cut
        yield text[start:]


def _hearing_signals(work: Callable[[Iterator[str]], None], texts: Iterable[str]) -> None:
    """Do what holds its thread outside of Python in another one, so that Ctrl-C reaches this one."""
    interrupted, read = threading.Event(), threading.Event()
    done: Future[None] = Future()

    def until_interrupted() -> Iterator[str]:
        yield from takewhile(lambda _: not interrupted.is_set(), texts)
        read.set()

    def run() -> None:
        try:
            done.set_result(work(until_interrupted()))
        except BaseException as error:
            done.set_exception(error)
            read.set()

    threading.Thread(target=run, daemon=True).start()
    try:
        done.result()
    except KeyboardInterrupt:
        interrupted.set()
        read.wait(timeout=10)  # a thread that comes back to Python while that is ending aborts the process
        raise


def load_pretrained(options: TokenizerOptions) -> "Tokenizer":
    """A tokenizer from a `tokenizer.json` or from the hub. Raises CorpusError where it cannot be had."""
    from tokenizers import Tokenizer

    assert options.source is not None
    file = tokenizer_file(options)
    try:
        if file:
            tokenizer = Tokenizer.from_file(str(file))
        else:
            assert options.revision is not None  # its fingerprint was taken before
            tokenizer = Tokenizer.from_pretrained(options.source, revision=options.revision)
    except Exception as error:  # tokenizers raises bare Exception for whatever it cannot parse
        reason = str(error).strip().splitlines()[0]
        raise CorpusError(f"data.tokenizer.source={options.source!r} cannot be loaded: {reason}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def describe(tokenizer: "Tokenizer", source: str | None = None) -> TokenizerInfo:
    """Hash, size and special tokens. Raises CorpusError where no token can serve as BOS."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    bos = next((vocabulary[text] for text in _BEGINNINGS + _ENDS if text in vocabulary), None)
    if bos is None:
        allowed = ", ".join(_BEGINNINGS + _ENDS)
        raise CorpusError(f"data.tokenizer.source={source!r} has no token to begin a document with; one of {allowed}")
    special = {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    return TokenizerInfo(
        hash=hashlib.sha256(tokenizer.to_str().encode()).hexdigest(),
        vocab_size=max(vocabulary.values()) + 1,
        bos=bos,
        special_tokens=tuple(sorted(special | {bos})),
    )


@lru_cache(maxsize=2)
def from_json(text: str) -> "Tokenizer":
    """A tokenizer as written by `to_str`, ready to encode documents."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(text)
    tokenizer.encode_special_tokens = True
    return tokenizer


def decode(directory: Path, ids: list[int]) -> list[str]:
    """A printable text for each id, by the `tokenizer.json` in a directory; a part of a character shows its bytes."""
    tokenizer = from_json((directory / "tokenizer.json").read_text(encoding="utf-8"))
    texts = []
    for index in ids:
        text = tokenizer.decode([index], skip_special_tokens=False)
        if not text or "\ufffd" in text:
            text = tokenizer.id_to_token(index) or f"<{index}>"
        texts.append("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text))
    return texts
