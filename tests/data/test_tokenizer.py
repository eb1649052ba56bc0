"""Tokenizers: what a corpus can give, determinism, BOS, and texts that come back."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from induction_bump.data import tokenizer as module
from induction_bump.data.errors import CorpusError
from induction_bump.data.options import TokenizerOptions
from induction_bump.data.tokenizer import BOS_TEXT, decode, describe, from_json, load_pretrained, train_bpe
from tests.data.conftest import make_texts

TEXTS = make_texts(30)


def test_a_trained_bpe_has_the_size_asked_for_and_gives_every_text_back():
    tokenizer = train_bpe(TEXTS, TokenizerOptions(vocab_size=300))
    info = describe(tokenizer)
    assert info.vocab_size == tokenizer.get_vocab_size() == 300
    assert info.special_tokens == (info.bos,)
    for text in (TEXTS[0], "日本語 \x00 🙂\n"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_same_texts_give_the_same_tokenizer():
    hashes = {describe(train_bpe(iter(TEXTS), TokenizerOptions(vocab_size=300))).hash for _ in range(3)}
    assert len(hashes) == 1
    assert describe(train_bpe(TEXTS[:10], TokenizerOptions(vocab_size=280))).hash not in hashes


def random_letters(count: int, alphabet: str = "ACGT") -> str:
    return "".join(random.Random(0).choices(alphabet, k=count))


def test_text_without_blanks_is_trained_on_in_time_that_grows_with_its_length():
    started = time.process_time()
    train_bpe([random_letters(300_000)], TokenizerOptions(vocab_size=900))
    assert time.process_time() - started < 15  # s; in one piece it takes 50


def test_cutting_long_words_changes_no_tokenizer_of_text_that_has_none(monkeypatch: pytest.MonkeyPatch):
    texts = [*TEXTS, random_letters(module.LONGEST_WORD), " " * module.LONGEST_WORD + "x", "==" * 400, "ü" * 500]
    cut = train_bpe(texts, TokenizerOptions(vocab_size=400)).to_str()
    monkeypatch.setattr(module, "LONGEST_WORD", 10**5)
    assert train_bpe(texts, TokenizerOptions(vocab_size=400)).to_str() == cut


def test_long_words_are_cut_for_counting_alone():
    word = random_letters(3 * module.LONGEST_WORD)
    tokenizer = train_bpe([word, *TEXTS], TokenizerOptions(vocab_size=300))
    assert [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(f"a {word}")] == ["a", f"Ġ{word}"]
    assert tokenizer.decode(tokenizer.encode(word).ids) == word


SLOW = """
import random
from induction_bump.data import tokenizer
from induction_bump.data.options import TokenizerOptions

tokenizer.LONGEST_WORD = 10**5  # long enough to take a minute
text = " ".join("".join(random.choices("ACGT", k=90_000)) for _ in range(20))
print("begins", flush=True)
tokenizer.train_bpe([text], TokenizerOptions(vocab_size=5000))
print("has ended", flush=True)
"""


@pytest.mark.processes
def test_ctrl_c_ends_the_training_of_a_tokenizer():
    process = subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    assert (process.returncode, out) == (-signal.SIGINT, "")
    assert error.splitlines()[-1] == "KeyboardInterrupt"


def test_what_reading_raises_comes_through():
    def texts():
        yield from TEXTS
        raise CorpusError("unreadable")

    with pytest.raises(CorpusError, match="unreadable"):
        train_bpe(texts(), TokenizerOptions(vocab_size=300))


def test_a_vocabulary_larger_than_the_texts_can_give_is_an_error_that_says_how_many():
    with pytest.raises(
        CorpusError, match=r"^data\.tokenizer\.vocab_size=5000 is more than the corpus can give: at most \d+$"
    ):
        train_bpe(["so little text"] * 3, TokenizerOptions(vocab_size=5000))


@pytest.mark.parametrize("texts", [[], ["a"], ["ab"]])
def test_texts_that_give_no_vocabulary_at_all_are_too_little(texts: list[str]):
    with pytest.raises(CorpusError, match=r"^data\.corpus: there is too little text in it to train a tokenizer on"):
        train_bpe(texts, TokenizerOptions(vocab_size=258))


def test_the_number_that_is_said_to_be_possible_is_possible():
    with pytest.raises(CorpusError) as caught:
        train_bpe(TEXTS, TokenizerOptions(vocab_size=50_000))
    most = int(str(caught.value).split()[-1])
    assert describe(train_bpe(TEXTS, TokenizerOptions(vocab_size=most))).vocab_size == most


def test_a_special_token_written_in_a_text_is_text():
    tokenizer = from_json(train_bpe(TEXTS, TokenizerOptions(vocab_size=300)).to_str())
    bos = describe(tokenizer).bos
    assert bos not in tokenizer.encode(f"a {BOS_TEXT} b").ids


def pretrained(path: Path, words: list[str], special: list[str]) -> TokenizerOptions:
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(special)
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=3)
    tokenizer.save(str(path))
    return TokenizerOptions(name="pretrained", source=str(path))


@pytest.mark.parametrize(
    ("special", "chosen"),
    [(["</s>", "<s>"], "<s>"), (["<|endoftext|>"], "<|endoftext|>"), (["[EOS]", "[PAD]"], "[EOS]")],
)
def test_a_pretrained_tokenizer_begins_documents_with_bos_or_else_with_its_end(tmp_path: Path, special, chosen):
    tokenizer = load_pretrained(pretrained(tmp_path / "t.json", ["[UNK]", "a", "b"], special))
    info = describe(tokenizer)
    assert info.bos == tokenizer.token_to_id(chosen)
    assert set(info.special_tokens) == {tokenizer.token_to_id(text) for text in special}
    assert info.vocab_size == 3 + len(special)


def test_truncation_and_padding_of_a_pretrained_tokenizer_are_off(tmp_path: Path):
    tokenizer = load_pretrained(pretrained(tmp_path / "t.json", ["[UNK]", "a", "b"], ["<s>"]))
    assert tokenizer.encode("a b a b a").ids == [1, 2, 1, 2, 1]
    assert tokenizer.encode("a").ids == [1]


def test_a_directory_with_a_tokenizer_is_found(tmp_path: Path):
    pretrained(tmp_path / "tokenizer.json", ["[UNK]", "a"], ["<s>"])
    assert load_pretrained(TokenizerOptions(name="pretrained", source=str(tmp_path))).get_vocab_size() == 3


def test_a_tokenizer_without_a_beginning_or_end_is_an_error_that_says_what_is_allowed(tmp_path: Path):
    tokenizer = load_pretrained(pretrained(tmp_path / "t.json", ["[UNK]", "a"], ["[PAD]"]))
    with pytest.raises(CorpusError, match=r"^data\.tokenizer\.source='t' has no token to begin .*<\|endoftext\|>"):
        describe(tokenizer, "t")


def test_a_tokenizer_file_that_is_missing_or_none_is_an_error(tmp_path: Path):
    with pytest.raises(CorpusError, match=r"^data\.tokenizer\.source='.*none\.json' is missing"):
        load_pretrained(TokenizerOptions(name="pretrained", source=str(tmp_path / "none.json")))
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(CorpusError, match=r"^data\.tokenizer\.source='.*bad\.json' cannot be loaded: ") as caught:
        load_pretrained(TokenizerOptions(name="pretrained", source=str(tmp_path / "bad.json")))
    assert "\n" not in str(caught.value)


def test_every_token_has_a_printable_text(tmp_path: Path):
    tokenizer = train_bpe(["two\nlines", *TEXTS], TokenizerOptions(vocab_size=300))
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    texts = decode(tmp_path, list(range(300)))
    assert all(text and text.isprintable() for text in texts)
    newline = tokenizer.encode("\n").ids[0]
    assert decode(tmp_path, [newline, describe(tokenizer).bos]) == ["\\n", BOS_TEXT]
