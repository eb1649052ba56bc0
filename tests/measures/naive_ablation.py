"""Ablations of sequences that may differ in length, each run by itself through loops, in float64."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from induction_bump.measures.ablation import Head, Kind
from induction_bump.model.transformer import Transformer
from tests.model.naive import OnHead, Patterns, naive_logits


class NaiveAblation:
    """What heads mix, and the losses without some of them."""

    def __init__(self, model: Transformer, sequences: Sequence[np.ndarray]) -> None:
        """Sequences hold no padding. The last token of the longest is a target only, as the context ends before it."""
        self.model = model
        self.sequences = [torch.from_numpy(np.asarray(sequence)) for sequence in sequences]
        self.positions = max(map(len, self.sequences)) - 1
        self.mixed: list[dict[Head, Tensor]] = []
        self.patterns: list[Patterns] = []
        self.intact: list[np.ndarray] = []
        for sequence in self.sequences:
            z_of: dict[Head, Tensor] = {}
            pattern_of: Patterns = {}

            def note(layer: int, head: int, z: Tensor, pattern: Tensor, z_of=z_of, pattern_of=pattern_of) -> Tensor:
                z_of[layer, head], pattern_of[layer, head] = z, pattern
                return z

            self.intact.append(self._losses(sequence, note))
            self.mixed.append(z_of)
            self.patterns.append(pattern_of)

    def mean(self, head: Head) -> Tensor:
        """positions × K: at each position the mean over the sequences that have it."""
        rows = []
        for i in range(self.positions):
            there = [z_of[head][i] for z_of in self.mixed if len(z_of[head]) > i]
            rows.append(torch.stack(there).mean(0))
        return torch.stack(rows)

    def losses(self, group: frozenset[Head], kind: Kind) -> list[np.ndarray]:
        """Of each sequence, its losses with a group of heads ablated."""
        means = {head: self.mean(head) for head in group} if kind == "mean" else {}
        found = []
        for sequence, patterns in zip(self.sequences, self.patterns, strict=True):

            def replace(layer: int, head: int, z: Tensor, pattern: Tensor) -> Tensor:
                if (layer, head) not in group:
                    return z
                return means[layer, head][: len(z)] if kind == "mean" else torch.zeros_like(z)

            found.append(self._losses(sequence, replace, patterns if kind == "pattern_preserving" else None))
        return found

    def _losses(self, sequence: Tensor, on_head: OnHead, given: Patterns | None = None) -> np.ndarray:
        logits = naive_logits(self.model, sequence[: self.positions], on_head, given)
        return np.array([-float(logits[k].log_softmax(-1)[target]) for k, target in enumerate(sequence[1:])])
