"""Training windows as a map-style dataset, and the sampler that says which of them each step and device takes."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from induction_bump.data.corpus import Corpus


class WindowDataset:
    """Training sequences 0 … sequences−1 of a corpus in the order of `seed`; a whole batch is fetched at once."""

    def __init__(self, corpus: Corpus, seed: int, sequences: int) -> None:
        self.corpus = corpus
        self.seed = seed
        self.sequences = sequences

    def __len__(self) -> int:
        return self.sequences

    def __getitem__(self, index: int) -> Int[np.ndarray, " T+1"]:
        if not 0 <= index < self.sequences:
            raise IndexError(f"sequence {index} of {self.sequences}")
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> Int[np.ndarray, "n T+1"]:
        # torch's DataLoader prefers this method and hands its result to collate_fn as it is
        return self.corpus.windows(np.asarray(indices, dtype=np.int64), self.seed)


class StepBatchSampler:
    """The sequences of each forward pass of one rank, for the steps start … end−1.

    Step s takes sequences s·B … s·B+B−1 whatever `world` and `passes` are: pass p takes the p-th block of B/passes of
    them, and of that each rank the rank-th equal part. Yields `passes` lists a step.
    """

    def __init__(
        self, start: int, end: int, batch_sequences: int, *, passes: int = 1, rank: int = 0, world: int = 1
    ) -> None:
        assert 0 <= start <= end, (start, end)
        assert 0 <= rank < world, (rank, world)
        assert batch_sequences % (passes * world) == 0, (batch_sequences, passes, world)
        self.start, self.end = start, end
        self.batch_sequences, self.passes = batch_sequences, passes
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return (self.end - self.start) * self.passes

    def __iter__(self) -> Iterator[list[int]]:
        a_pass = self.batch_sequences // self.passes
        share = a_pass // self.world
        for step in range(self.start, self.end):
            for number in range(self.passes):
                first = step * self.batch_sequences + number * a_pass + self.rank * share
                yield list(range(first, first + share))
