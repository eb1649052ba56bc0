"""A corpus small enough to reason about."""

import numpy as np

from induction_bump.data.held_out import HeldOut


class SmallCorpus:
    """V tokens, 0 is BOS; token v > 0 has frequency proportional to 1/v; held-out windows are uniform noise."""

    fingerprint = "f" * 64
    tokenizer_hash = "none"
    bos = 0
    special_tokens = (0,)
    windows_per_epoch = None

    def __init__(self, vocab_size: int = 32, context: int = 24, triggers: np.ndarray | None = None) -> None:
        self.vocab_size, self.context, self._triggers = vocab_size, context, triggers
        weights = np.concatenate([[0.0], 1 / np.arange(1, vocab_size)])
        self.frequencies = weights / weights.sum()

    def windows(self, indices: np.ndarray, seed: int) -> np.ndarray:
        return np.stack([self._noise(1, [seed, int(i), 7])[0] for i in indices])

    def held_out(self, examples: int, length: int, seed: int) -> HeldOut:
        tokens = np.random.default_rng(seed).integers(1, self.vocab_size, (examples, length + 1))
        tokens[:, 0] = 0
        return HeldOut(tokens=tokens, document=(np.arange(examples) // 2).astype(np.int32))

    def probe_triggers(self, sequences: int, seed: int) -> np.ndarray | None:
        return None if self._triggers is None else np.tile(self._triggers, (sequences, 1))

    def decode(self, ids: np.ndarray) -> list[str]:
        return [f"t{i}" for i in ids]

    def _noise(self, n: int, seed: list[int]) -> np.ndarray:
        return np.random.default_rng(seed).integers(1, self.vocab_size, (n, self.context + 1))
