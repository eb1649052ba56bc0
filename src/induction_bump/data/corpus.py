"""The face of this package: `prepare` turns options into a corpus that training and probes read.

Training sequence number i is a pure function of (corpus, seed, i), so resuming needs the step and nothing else.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int

from induction_bump.data.build import find_or_build
from induction_bump.data.errors import CorpusError
from induction_bump.data.fingerprint import fingerprint
from induction_bump.data.held_out import HeldOut
from induction_bump.data.options import DataOptions, RepeatsOptions, TriggersOptions
from induction_bump.data.repeats import RepeatsGenerator
from induction_bump.data.synthetic import SyntheticCorpus
from induction_bump.data.text import TextCorpus
from induction_bump.data.triggers import TriggersGenerator

__all__ = ["Corpus", "CorpusError", "HeldOut", "prepare"]


class Corpus(Protocol):
    """Windows of tokens for training and for probes."""

    @property
    def fingerprint(self) -> str:
        """Content hash of the corpus."""
        ...

    @property
    def tokenizer_hash(self) -> str:
        """Hash of the tokenizer; `none` for synthetic corpora."""
        ...

    @property
    def context(self) -> int:
        """T of the training windows."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of token ids V."""
        ...

    @property
    def bos(self) -> int:
        """Id of BOS."""
        ...

    @property
    def special_tokens(self) -> tuple[int, ...]:
        """Ids that stand for no text, BOS among them."""
        ...

    @property
    def frequencies(self) -> Float[np.ndarray, " V"]:
        """Relative frequency of each token in the training corpus, special tokens left out (0); sums to 1."""
        ...

    @property
    def windows_per_epoch(self) -> int | None:
        """How many training windows there are before they come again; None where they never do."""
        ...

    def windows(self, indices: Int[np.ndarray, " n"], seed: int) -> Int[np.ndarray, "n T+1"]:
        """Training windows number `indices` in the order of `seed`, int64."""
        ...

    def held_out(self, examples: int, length: int, seed: int) -> HeldOut:
        """Windows t_0 … t_length that training never sees. Raises CorpusError where there are too few."""
        ...

    def probe_triggers(self, sequences: int, seed: int) -> Int[np.ndarray, "n K"] | None:
        """Trigger tokens for each sequence of a probe; None on a corpus without triggers."""
        ...

    def decode(self, ids: Int[np.ndarray, " n"]) -> list[str]:
        """A printable text for each token."""
        ...


def prepare(options: DataOptions, cache: Path, *, progress: bool = True) -> Corpus:
    """The corpus that `options` describe, made first where it is not there yet.

    Args: cache, the directory of tokenised corpora; progress, show a bar on a terminal.
    Safe to call from several processes at once. Raises CorpusError for what the user can mend.
    """
    corpus, context, bos = options.corpus, options.context, options.prepend_bos
    if isinstance(corpus, RepeatsOptions):
        return SyntheticCorpus(RepeatsGenerator(corpus, prepend_bos=bos), context, fingerprint(options))
    if isinstance(corpus, TriggersOptions):
        return SyntheticCorpus(TriggersGenerator(corpus, prepend_bos=bos), context, fingerprint(options))
    return TextCorpus(find_or_build(options, Path(cache), progress=progress), options)
