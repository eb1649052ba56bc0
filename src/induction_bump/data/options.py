"""Which corpus is trained on, and how it becomes windows of tokens."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from induction_bump.options import IntPair, NonNegative, NonNegativeFloat, Positive, Share, Text, options


def _ordered(name: str, pair: tuple[int, int]) -> None:
    if not 1 <= pair[0] <= pair[1]:
        raise ValueError(f"{name}={list(pair)} must be two whole numbers, 1 ≤ shortest ≤ longest")


@options
class RepeatsOptions:
    """Synthetic: i.i.d. Zipf tokens in which segments of the same window are copied, again and again."""

    name: Literal["repeats"] = "repeats"
    vocab_size: Annotated[int, Field(ge=16)] = 256
    """Tokens, BOS among them."""
    zipf: NonNegativeFloat = 1.0
    """Exponent of the Zipf law; 0 is uniform."""
    first_copy: Positive = 40
    """Position of the window from which on segments may be copied."""
    copy_share: Share = 0.7
    """Probability that a copy is made where one could start; 0 is the corpus without any."""
    segment: IntPair = (8, 32)
    """Shortest and longest copied segment, uniform between."""
    gap: IntPair = (4, 24)
    """Shortest and longest stretch of fresh tokens between two chances to copy."""

    @model_validator(mode="after")
    def _check(self) -> "RepeatsOptions":
        _ordered("segment", self.segment)
        _ordered("gap", self.gap)
        if self.segment[0] >= self.first_copy:
            raise ValueError(
                f"segment={list(self.segment)} is longer than what lies before first_copy={self.first_copy}"
            )
        return self


@options
class TriggersOptions:
    """Synthetic: B23's bigram language, in which each window's trigger tokens are always followed by the same token."""

    name: Literal["triggers"] = "triggers"
    vocab_size: Annotated[int, Field(ge=16, le=4096)] = 65
    """Tokens, BOS among them; the bigram table has its square."""
    triggers: Positive = 5
    """Trigger tokens of a window."""
    fixed_triggers: bool = False
    """The same triggers in every window (the most frequent tokens) instead of new ones."""
    concentration: Annotated[float, Field(gt=0)] = 0.1
    """Dirichlet concentration of the rows of the bigram table: the smaller, the more predictable."""
    language_seed: NonNegative = 0
    """Seed of the bigram table, which belongs to the corpus."""

    @model_validator(mode="after")
    def _check(self) -> "TriggersOptions":
        if self.triggers >= self.vocab_size - 1:
            raise ValueError(f"triggers={self.triggers} leaves no other token of vocab_size={self.vocab_size}")
        return self


HeldOutBy = Literal["documents", "sections"]
"""What is held out as a whole: a document, or a section of some 20,000 characters of a long one."""
HeldOutChoice = Literal["auto", "documents", "sections"]
"""`auto`: by sections where documents are few and long, else by documents."""

UndecodablePolicy = Literal["refuse", "skip", "replace"]
"""What becomes of documents that are no UTF-8: an error, left out with a warning, or � for what is no character."""


@options
class PythonSourceOptions:
    """Real text on every machine: the Python standard library's own source."""

    name: Literal["python_source"] = "python_source"
    installed_packages: bool = False
    """Add the source of installed packages."""
    undecodable: UndecodablePolicy = "skip"
    """Files that are not in their declared encoding: `refuse` them, `skip` them, or `replace` their bad bytes by �."""


@options
class FilesOptions:
    """Local files, read through Hugging Face `datasets`."""

    name: Literal["files"] = "files"
    paths: Annotated[tuple[Text, ...], Field(min_length=1)]
    """Files, directories or glob patterns."""
    format: Literal["text", "jsonl", "parquet"] = "text"
    """Layout; in `text` a file is a document."""
    text_field: Text = "text"
    """Column of JSONL and Parquet that holds the text."""
    undecodable: UndecodablePolicy = "skip"
    """Documents that are no UTF-8: `refuse` them, `skip` them, or `replace` their bad bytes by �."""


@options
class HubOptions:
    """A Hugging Face data set at a named revision; remote code is never trusted."""

    name: Literal["hub"] = "hub"
    dataset: Text
    """`owner/name` on the hub, or a local directory in one of its layouts."""
    config: Text | None = None
    """The data set's configuration, where it has several."""
    split: Text = "train"
    """Which split training and held-out documents are taken from."""
    revision: Text
    """Commit or tag; a moving branch would make runs irreproducible."""
    text_field: Text = "text"
    """Column that holds the text; a row is a document, in files of plain text a line."""
    streaming: bool = True
    """Read as a stream instead of downloading whole."""
    max_documents: Positive | None = None
    """Stop after so many documents."""
    undecodable: UndecodablePolicy = "skip"
    """Documents that are no UTF-8: `refuse` them, `skip` them, or `replace` their bad bytes by �."""


CorpusOptions = Annotated[
    RepeatsOptions | TriggersOptions | PythonSourceOptions | FilesOptions | HubOptions,
    Field(discriminator="name"),
]


MIN_VOCAB_SIZE = 258
"""The least a BPE may have: BOS, the 256 bytes, and one pair of them."""


@options
class TokenizerOptions:
    """How text becomes tokens; synthetic corpora have their own."""

    name: Literal["bpe", "pretrained"] = "bpe"
    """`bpe` trains a byte-level BPE on the corpus; `pretrained` takes one as it is."""
    vocab_size: Annotated[int, Field(ge=MIN_VOCAB_SIZE)] = 2048
    """Size of a trained BPE, special tokens among it."""
    source: Text | None = None
    """Of a pretrained tokenizer: its name on the hub or a `tokenizer.json`."""
    revision: Text | None = None
    """Commit or tag of a pretrained tokenizer on the hub; a moving branch would make runs irreproducible."""
    training_documents: Positive = 10_000
    """A BPE is trained on at most so many documents of the training part."""

    @model_validator(mode="after")
    def _check(self) -> "TokenizerOptions":
        if self.name == "pretrained" and self.source is None:
            raise ValueError("source: must be set where name=pretrained; its name on the hub, or a tokenizer.json")
        if self.name != "pretrained" and self.source is not None:
            raise ValueError(f"source={self.source} is for name=pretrained, and this is name={self.name}")
        return self


@options
class DataOptions:
    """Corpus, tokens and windows."""

    corpus: CorpusOptions = Field(default_factory=PythonSourceOptions)
    tokenizer: TokenizerOptions = Field(default_factory=TokenizerOptions)
    context: Annotated[int, Field(ge=2)] = 512
    """Positions T of a window: T + 1 tokens, of which T are predicted."""
    prepend_bos: bool = True
    """Start every training window with BOS."""
    held_out_share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of a text corpus's documents that is never trained on."""
    held_out_by: HeldOutChoice = "auto"
    """Hold out whole `documents`, or `sections` of long ones with a gap around them, as where there are few."""

    @model_validator(mode="after")
    def _copies_fit(self) -> "DataOptions":
        corpus = self.corpus
        if isinstance(corpus, RepeatsOptions) and corpus.copy_share and corpus.first_copy > self.context:
            raise ValueError(
                f"corpus.first_copy={corpus.first_copy} lies past context={self.context}: nothing would be copied;"
                " corpus.copy_share=0 says so"
            )
        return self

    @property
    def is_text(self) -> bool:
        """Whether the corpus goes through a tokenizer."""
        return self.corpus.name not in ("repeats", "triggers")
