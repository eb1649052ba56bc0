"""Text corpora as windows: training ones cut from the joined stream, held-out ones inside one document each.

Training window w is stream[w·T : w·T + T + 1] where windows do not start with BOS, and BOS followed by
stream[w·T : w·T + T] where they do; the rest at the stream's end is left out.
"""

import numpy as np
from jaxtyping import Float, Int

from induction_bump.data.errors import CorpusError
from induction_bump.data.generator import below, derive_key, high, low, words
from induction_bump.data.held_out import HeldOut
from induction_bump.data.options import DataOptions
from induction_bump.data.order import window_of
from induction_bump.data.shards import FEW_CLUSTERS, HELD_OUT, TRAINING, Shards, TokenStream
from induction_bump.data.tokenizer import decode

_PROBE = 31  # the stream of a seed


class TextCorpus:
    """Windows of tokenised text; see `corpus.Corpus` for what its members mean."""

    def __init__(self, shards: Shards, options: DataOptions) -> None:
        self.shards = shards
        self.context, self.prepend_bos = options.context, options.prepend_bos
        self.held_out_share = options.held_out_share
        self.fingerprint: str = shards.manifest["corpus"]
        self.tokenizer_hash = shards.tokenizer.hash
        self.vocab_size = shards.tokenizer.vocab_size
        self.bos = shards.tokenizer.bos
        self.special_tokens = shards.tokenizer.special_tokens
        counts = shards.unigrams
        self.frequencies: Float[np.ndarray, " V"] = counts / counts.sum()
        self._training = shards.stream(TRAINING)
        self.training_tokens = len(self._training)
        self.windows_per_epoch = (self.training_tokens - (0 if self.prepend_bos else 1)) // self.context
        if self.windows_per_epoch < 1:
            needed = self.context + (0 if self.prepend_bos else 1)
            raise CorpusError(
                f"data.context={self.context}: a window takes {needed} tokens, and the training part of the corpus"
                f" has {self.training_tokens}; shorten it, or give more text"
            )

    def windows(self, indices: Int[np.ndarray, " n"], seed: int) -> Int[np.ndarray, "n T+1"]:
        """Training windows `indices` of the order that `seed` gives."""
        starts = window_of(indices, self.windows_per_epoch, seed) * self.context
        return self._read(self._training, starts, self.context)

    def held_out(self, examples: int, length: int, seed: int) -> HeldOut:
        """Windows inside one held-out document each: one of every document in a random order, then a second, and so on.

        Windows of a document do not overlap; they share a random offset. Raises CorpusError where there are too few.
        """
        stream = self.shards.stream(HELD_OUT)
        needed = length + (0 if self.prepend_bos else 1)
        starts = stream.starts
        lengths = np.diff(starts) - 1
        room = lengths // needed  # windows a document has room for
        available = int(room.sum())
        if available < examples:
            raise CorpusError(
                f"measures.held_out.examples={examples}: the {stream.documents} held-out documents have room for"
                f" {available} windows of {needed} tokens; lower it, lower data.context,"
                f" or raise data.held_out_share={self.held_out_share}"
            )
        draws = words(derive_key(_PROBE, seed), np.arange(stream.documents), 2)
        offset = below(high(draws[:, 0]), lengths - room * needed + 1)
        first = below(low(draws[:, 0]), np.maximum(room, 1))
        order = np.argsort(draws[:, 1], kind="stable")
        documents, places = [], []
        missing = examples
        for taken in range(int(room.max())):
            here = order[room[order] > taken][:missing]
            documents.append(here)
            places.append(starts[here] + offset[here] + (first[here] + taken) % room[here] * needed)
            missing -= len(here)
            if not missing:
                break
        taken_from = np.concatenate(documents)
        clusters = stream.sources[taken_from]
        if len(np.unique(clusters)) < FEW_CLUSTERS:
            clusters = taken_from  # of whole documents they are the same
        return HeldOut(tokens=self._read(stream, np.concatenate(places), length), document=clusters.astype(np.int32))

    def probe_triggers(self, sequences: int, seed: int) -> None:
        """Text has no trigger tokens."""

    def decode(self, ids: Int[np.ndarray, " n"]) -> list[str]:
        """A printable text for each token."""
        return decode(self.shards.directory, np.asarray(ids).tolist())

    def _read(self, stream: TokenStream, starts: Int[np.ndarray, " n"], length: int) -> Int[np.ndarray, "n T+1"]:
        if not self.prepend_bos:
            return stream.read(starts, length + 1)
        tokens = np.empty((len(starts), length + 1), dtype=np.int64)
        tokens[:, 0] = self.bos
        tokens[:, 1:] = stream.read(starts, length)
        return tokens
