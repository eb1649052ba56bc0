"""A corpus whose bigrams are worth counting: a Markov chain."""

import numpy as np

from induction_bump.data.errors import CorpusError
from induction_bump.data.held_out import HeldOut
from induction_bump.measures.options import NgramOptions

V, T = 17, 12


class MarkovCorpus:
    """Windows of a Markov chain after BOS = 0; the last token occurs in held-out windows only."""

    fingerprint = "f" * 64
    tokenizer_hash = "none"
    bos = 0
    special_tokens = (0,)
    vocab_size = V
    context = T

    def __init__(self, windows_per_epoch: int | None = None, most_held_out: int = 10_000) -> None:
        self.windows_per_epoch, self.most_held_out = windows_per_epoch, most_held_out
        # rows of very different frequency, so that contexts fall into many buckets
        self.table = np.random.default_rng(1).dirichlet(3 / np.arange(1, V), size=V)
        self.frequencies = np.concatenate([[0.0], np.full(V - 1, 1 / (V - 1))])

    def windows(self, indices: np.ndarray, seed: int) -> np.ndarray:
        return np.stack([self._chain([7, seed, int(i)], V - 1) for i in indices])

    def held_out(self, examples: int, length: int, seed: int) -> HeldOut:
        if examples > self.most_held_out:
            raise CorpusError(f"only {self.most_held_out} windows")
        tokens = np.stack([self._chain([8, seed, i], V)[: length + 1] for i in range(examples)])
        return HeldOut(tokens=tokens, document=np.arange(examples, dtype=np.int32))

    def probe_triggers(self, sequences: int, seed: int) -> None:
        return None

    def decode(self, ids: np.ndarray) -> list[str]:
        return [f"t{i}" for i in ids]

    def _chain(self, seed: list[int], size: int) -> np.ndarray:
        random = np.random.default_rng(seed)
        window = [0]
        for _ in range(T):
            law = self.table[window[-1], : size - 1]
            window.append(1 + int(random.choice(size - 1, p=law / law.sum())))
        return np.array(window)


OPTIONS = NgramOptions(tokens=60 * T, held_out=40)
