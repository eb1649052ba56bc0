"""Synthetic corpora: endless training windows from a counter-based generator, and held-out ones from another key."""

from typing import Protocol

import numpy as np
from jaxtyping import Float, Int

from induction_bump.data.generator import derive_key
from induction_bump.data.held_out import HeldOut
from induction_bump.data.repeats import BOS

_TRAINING, _HELD_OUT, _PROBE = 11, 12, 13  # streams of a seed


class WindowGenerator(Protocol):
    """Makes windows as a pure function of (key, index)."""

    @property
    def frequencies(self) -> Float[np.ndarray, " V"]:
        """Relative frequency of each token; BOS has 0."""
        ...

    def generate(self, key: int, indices: Int[np.ndarray, " n"], length: int) -> Int[np.ndarray, "n T+1"]:
        """Windows t_0 … t_T of the sequences at `indices`."""
        ...


class SyntheticCorpus:
    """A corpus that is generated when it is asked for; see `corpus.Corpus` for what its members mean."""

    tokenizer_hash = "none"
    bos = BOS
    special_tokens = (BOS,)
    windows_per_epoch = None

    def __init__(self, generator: WindowGenerator, context: int, fingerprint: str) -> None:
        self._generator = generator
        self.context = context
        self.fingerprint = fingerprint
        self.frequencies = generator.frequencies
        self.vocab_size = len(self.frequencies)

    def windows(self, indices: Int[np.ndarray, " n"], seed: int) -> Int[np.ndarray, "n T+1"]:
        """Training windows `indices` of the order that `seed` gives."""
        return self._generator.generate(derive_key(_TRAINING, seed), np.asarray(indices), self.context)

    def held_out(self, examples: int, length: int, seed: int) -> HeldOut:
        """Windows under a key that no training seed has."""
        key, indices = derive_key(_HELD_OUT, seed), np.arange(examples)
        return HeldOut(
            tokens=self._generator.generate(key, indices, length),
            document=indices.astype(np.int32),
            triggers=self._triggers(key, indices),
        )

    def probe_triggers(self, sequences: int, seed: int) -> Int[np.ndarray, "n K"] | None:
        """Trigger tokens for the sequences of a probe, drawn as a window's are; None where a corpus has none."""
        return self._triggers(derive_key(_PROBE, seed), np.arange(sequences))

    def decode(self, ids: Int[np.ndarray, " n"]) -> list[str]:
        """`t17` for token 17."""
        return ["<bos>" if token == BOS else f"t{token}" for token in np.asarray(ids).tolist()]

    def _triggers(self, key: int, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, "n K"] | None:
        of_windows = getattr(self._generator, "triggers", None)
        return of_windows(key, indices) if of_windows else None
