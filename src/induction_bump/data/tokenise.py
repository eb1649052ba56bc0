"""Documents to token ids in parallel processes, in order, with a bounded number of documents in memory.

Each batch comes back as one stream per split.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
from jaxtyping import Int, Integer

from induction_bump.data.options import HeldOutBy
from induction_bump.data.sections import stretches
from induction_bump.data.shards import HELD_OUT, TRAINING
from induction_bump.data.tokenizer import from_json
from induction_bump.pools import process_pool

_BATCH = 1_000_000  # characters
_WORTH_PROCESSES = 8  # batches; less is done before a pool has started


@dataclass(frozen=True)
class TokenisedBatch:
    """Some documents' tokens."""

    streams: dict[str, tuple[Integer[np.ndarray, " n"], Int[np.ndarray, " d"]]]
    """For each split, ids with a BOS before each document, and the documents' lengths without it."""
    bytes: int
    """Size of the texts in UTF-8."""
    texts: int
    """How many there were, before any was cut."""
    sources: dict[str, Int[np.ndarray, " d"]]
    """For each split, which of the batch's texts each of its documents is of."""

    @property
    def tokens(self) -> int:
        """Tokens without the BOS."""
        return sum(int(lengths.sum()) for _, lengths in self.streams.values())


@dataclass(frozen=True)
class BatchTokeniser:
    """Turns a batch of texts into tokens; sent to the worker processes as it is."""

    tokenizer_json: str
    bos: int
    dtype: str
    held_out_share: float
    held_out_by: HeldOutBy = "documents"

    def tokenise(self, texts: list[str]) -> TokenisedBatch:
        """Tokens of the texts, in order."""
        tokenizer = from_json(self.tokenizer_json)
        parts = [
            (number, part)
            for number, text in enumerate(texts)
            for part in stretches(text, self.held_out_share, self.held_out_by)
        ]
        encoded = tokenizer.encode_batch_fast([part.text for _, part in parts], add_special_tokens=False)
        documents: dict[str, list[list[int]]] = {TRAINING: [], HELD_OUT: []}
        sources: dict[str, list[int]] = {TRAINING: [], HELD_OUT: []}
        for (number, part), tokens in zip(parts, encoded, strict=True):
            if tokens.ids:  # a normaliser may leave nothing
                split = HELD_OUT if part.held_out else TRAINING
                documents[split].append(tokens.ids)
                sources[split].append(number)
        return TokenisedBatch(
            streams={split: self._joined(ids) for split, ids in documents.items()},
            bytes=sum(len(text.encode()) for text in texts),
            texts=len(texts),
            sources={split: np.array(numbers, dtype=np.int64) for split, numbers in sources.items()},
        )

    def _joined(self, documents: list[list[int]]) -> tuple[Integer[np.ndarray, " n"], Int[np.ndarray, " d"]]:
        lengths = np.array([len(ids) for ids in documents], dtype=np.int64)
        stream = np.fromiter(
            chain.from_iterable(chain((self.bos,), ids) for ids in documents),
            dtype=self.dtype,
            count=int(lengths.sum()) + len(documents),
        )
        return stream, lengths


def tokenise(documents: Iterable[str], tokeniser: BatchTokeniser, processes: int) -> Iterator[TokenisedBatch]:
    """Batches of tokens in the documents' order; little text is done in this process.

    Raises WorkerLostError where one of the processes was lost.
    """
    batches = _batches(documents)
    first = list(islice(batches, _WORTH_PROCESSES))
    if processes == 1 or len(first) < _WORTH_PROCESSES:
        yield from map(tokeniser.tokenise, chain(first, batches))
        return
    pending: deque[Future[TokenisedBatch]] = deque()
    with process_pool(processes, "tokenises", _start_worker, tokeniser) as pool:
        for batch in chain(first, batches):
            pending.append(pool.submit(_tokenise, batch))
            if len(pending) > 2 * processes:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in documents:
        batch.append(text)
        size += len(text)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


_worker: BatchTokeniser | None = None


def _start_worker(tokeniser: BatchTokeniser) -> None:
    global _worker
    _worker = tokeniser
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _tokenise(texts: list[str]) -> TokenisedBatch:
    assert _worker is not None
    return _worker.tokenise(texts)
