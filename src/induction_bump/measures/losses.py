"""Behaviour on held-out text, and on repeated tokens: pure functions of token losses (docs/measures/definitions.md).

`losses[n, k − 1]` is −ln p(t_k | t_0 … t_{k−1}) of example n: position k is 1-based and names the predicted token.
Arrays are N examples × T positions, in nats.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from induction_bump.measures.options import IclOptions
from induction_bump.measures.statistics import Estimate, clustered_mean

Losses = npt.NDArray[np.floating]
Tokens = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]


def per_example_icl_score(losses: Losses, icl: IclOptions) -> Losses:
    """loss[k_late] − loss[k_early] of each example (O22): N. Raises ValueError for a position past the context."""
    _check_reach(losses, icl.late)
    return losses[:, icl.late - 1] - losses[:, icl.early - 1]


def per_example_icl_window_score(losses: Losses, icl: IclOptions) -> Losses:
    """Mean loss over [k_late − w + 1, k_late] minus mean over [k_early, k_early + w − 1], each example: N."""
    _check_reach(losses, icl.late)
    late = losses[:, icl.late - icl.window : icl.late]
    early = losses[:, icl.early - 1 : icl.early - 1 + icl.window]
    return late.mean(1) - early.mean(1)


def _check_reach(losses: Losses, position: int) -> None:
    if position > losses.shape[1]:
        raise ValueError(f"position {position} lies past the context of {losses.shape[1]} positions")


_WINDOWS_AT_ONCE = 64
"""Windows whose last occurrences of every token of the vocabulary are held at once."""


@dataclass(frozen=True)
class InductionRule:
    """What the induction rule says of each position: N × T masks.

    The rule predicts that the token that followed the most recent earlier occurrence of t_{k−1} follows again.
    """

    right: Mask
    """t_{k−1} occurred before, and was followed by t_k."""
    wrong: Mask
    """t_{k−1} occurred before, and was followed by something else."""


def induction_rule(tokens: Tokens) -> InductionRule:
    """Read the rule off windows t_0 … t_T: N × (T + 1) → masks N × T (B23)."""
    rules = [_induction_rule(part) for part in np.array_split(tokens, -(-len(tokens) // _WINDOWS_AT_ONCE))]
    return InductionRule(*(np.concatenate([getattr(r, name) for r in rules]) for name in ("right", "wrong")))


def _induction_rule(tokens: Tokens) -> InductionRule:
    examples, length = tokens.shape
    right = np.zeros((examples, length - 1), bool)
    wrong = np.zeros((examples, length - 1), bool)
    row = np.arange(examples)
    follower = np.full((examples, int(tokens.max()) + 1), -1, np.int32)
    for k in range(1, length):
        previous = tokens[:, k - 1]
        predicted = follower[row, previous]
        right[:, k - 1] = predicted == tokens[:, k]
        wrong[:, k - 1] = (predicted >= 0) & ~right[:, k - 1]
        follower[row, previous] = tokens[:, k]
    return InductionRule(right, wrong)


def masked_loss(losses: Losses, mask: Mask, documents: Tokens) -> Estimate | None:
    """Mean loss over the tokens of a mask, or None where the mask holds none."""
    if not mask.any():
        return None
    return clustered_mean((losses * mask).sum(1), documents, mask.sum(1).astype(np.float64))


def gap(reference: Losses, losses: Losses, documents: Tokens) -> Estimate:
    """Mean of reference[k] − loss[k] over examples and positions, in nats: positive where the model is the better one.

    reference, losses: N × T, on the same tokens (`unigram_gap` and `bigram_gap`, H24); documents: N. The standard
    error is that of the paired differences.
    """
    _check_paired(reference, losses)
    return clustered_mean((reference - losses).mean(1), documents)


def masked_gain(reference: Losses, losses: Losses, mask: Mask, documents: Tokens) -> Estimate | None:
    """Mean of reference[k] − loss[k] over the tokens of a mask, or None where the mask holds none.

    With the corpus's bigram losses as the reference and the masks of `induction_rule`: `predictable_gain` and
    `unpredictable_gain` (B23). The masks look at the outcome, and the reference takes out what a bigram table makes of
    tokens so chosen.
    """
    _check_paired(reference, losses)
    return masked_loss(reference - losses, mask, documents)


def _check_paired(reference: Losses, losses: Losses) -> None:
    if reference.shape != losses.shape:
        raise ValueError(f"losses of {losses.shape} and a reference of {reference.shape} are not on the same tokens")


def copy_losses(losses: Losses, blocks: Tokens, copy: int) -> Losses:
    """Mean loss over the 2nd … last token of a copy (1, 2, …) of the block, each sequence: N.

    Sequences are BOS, block, block, …; blocks: N, the length n of each block. Token r_m of copy c is t_{(c−1)·n + m}.
    """
    k = np.arange(1, losses.shape[1] + 1)
    first = (copy - 1) * blocks[:, None] + 2
    last = copy * blocks[:, None]
    inside = (k >= first) & (k <= last)
    if np.any(last > losses.shape[1]):
        raise ValueError(f"copy {copy} does not fit into {losses.shape[1]} positions")
    return (losses * inside).sum(1) / inside.sum(1)
