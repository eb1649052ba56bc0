"""Texts for the models wired by hand, and the losses that follow from what each was wired to do.

The logit of a token that a head copies is 20 = `CERTAIN`: a right prediction costs `RIGHT` and a wrong one `WRONG`.
Where no head speaks all logits are equal and every token costs ln V. An induction head is right of every token of the
second copy and wrong of every one of the shuffled copy: its `ordered_copy_advantage` is `CERTAIN`.
"""

import math

import numpy as np

from induction_bump.measures.options import CopyingProbeOptions, RepeatsProbeOptions
from induction_bump.measures.probes import RepeatsProbe, copying_probe, repeats_probe
from tests.measures.corpus import SmallCorpus
from tests.measures.wired import CERTAIN, follower

V, T = 32, 40
"""Tokens, BOS included, and longest context."""
RIGHT = math.log1p((V - 1) * math.exp(-CERTAIN))
WRONG = CERTAIN + RIGHT
CUES = {5: 17, 9: 3, 20: 9, 30: 11}
"""B → A of the skip-trigrams that the model of them knows."""


def repeats(copies: int = 2) -> RepeatsProbe:
    """The probe of repeated random tokens."""
    options = RepeatsProbeOptions(sequences=8, repeats=copies, quantiles=(0.0, 1.0))
    return repeats_probe(SmallCorpus(V, T), T, options)


def distinct() -> np.ndarray:
    """BOS and 25 distinct tokens: no token comes twice."""
    return copying_probe(SmallCorpus(V, T), T, CopyingProbeOptions(sequences=16), (0.0, 1.0)).tokens


def losses_of(logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """N × T losses from N × T × V logits on N × (T + 1) tokens."""
    chosen = np.take_along_axis(logits, tokens[:, 1:, None], -1)[..., 0]
    return np.log(np.exp(logits).sum(-1)) - chosen


def raised(tokens: np.ndarray, *looks_back: int) -> np.ndarray:
    """N × T × V logits that copy the token found by looking back so far, then so far …, not past position 0."""
    logits = np.zeros((len(tokens), tokens.shape[1] - 1, V))
    for i in range(logits.shape[1]):
        at = i
        for by in looks_back:
            at = max(at - by, 0)
        logits[np.arange(len(tokens)), i, tokens[:, at]] = CERTAIN
    return logits


def raised_alike(tokens: np.ndarray) -> np.ndarray:
    """N × T × V logits of a head that copies with uniform attention to all that it sees."""
    logits = np.zeros((len(tokens), tokens.shape[1] - 1, V))
    for i in range(logits.shape[1]):
        for j in range(i + 1):
            logits[np.arange(len(tokens)), i, tokens[:, j]] += CERTAIN / (i + 1)
    return logits


def periodic(period: int, examples: int = 6) -> np.ndarray:
    """Sequences of T tokens that repeat their first `period`, distinct ones."""
    rng = np.random.default_rng(3)
    return np.tile(np.stack([rng.permutation(V)[:period] for _ in range(examples)]), T // period)


def skip_trigram_text(examples: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Random text in which C follows wherever a trigger B has its cue A before it.

    Returns N × (T + 1) tokens, and N × T whether t_k is such a C.
    """
    rng = np.random.default_rng(5)
    tokens = rng.integers(1, V, (examples, T + 1))
    tokens[:, 0] = 0
    forced = np.zeros((examples, T), bool)
    for n in range(examples):
        for k in range(2, T + 1):
            cue = CUES.get(int(tokens[n, k - 1]))
            if cue is not None and cue in tokens[n, : k - 1]:
                tokens[n, k] = follower(cue, V)
                forced[n, k - 1] = True
    return tokens, forced
