"""Which heads an event counts, and which of them carry it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from induction_bump.model.options import ModelOptions
from induction_bump.records.directory import RunDirectory
from induction_bump.records.schema import RecordsError

Head = tuple[int, int]
"""(layer, head), both from 0."""


@dataclass(frozen=True)
class HeadScores:
    """One measure of some heads over the snapshots that hold it."""

    steps: npt.NDArray[np.int64]
    """S."""
    tokens: npt.NDArray[np.int64]
    """S."""
    heads: tuple[Head, ...]
    """H, in order."""
    values: npt.NDArray[np.float64]
    """S × H."""

    def only(self, heads: frozenset[Head]) -> "HeadScores":
        """The same for fewer heads."""
        kept = [i for i, head in enumerate(self.heads) if head in heads]
        return HeadScores(self.steps, self.tokens, tuple(self.heads[i] for i in kept), self.values[:, kept])


@dataclass(frozen=True)
class HeadChange:
    """A head's score at the last snapshot before an event and at the last snapshot read."""

    layer: int
    head: int
    before: float
    after: float

    @property
    def name(self) -> str:
        """Such as L1H3."""
        return head_name((self.layer, self.head))


def head_name(head: Head) -> str:
    """Layer and head as the field writes them: L1H3."""
    return f"L{head[0]}H{head[1]}"


def counted_heads(model: ModelOptions) -> frozenset[Head]:
    """The heads whose scores events read: all that training was free to shape, so none that has a clamp."""
    clamped = {(clamp.layer, clamp.head) for clamp in model.clamps}
    every = ((layer, head) for layer in range(model.n_attention) for head in range(model.n_heads))
    return frozenset(head for head in every if head not in clamped)


def previous_token_heads(model: ModelOptions) -> frozenset[Head]:
    """The counted heads that can serve induction by looking one token back.

    Their output must be read by a later attention layer; smeared keys see the token before by themselves, so there
    every layer counts.
    """
    last = model.n_attention - 1
    return frozenset(head for head in counted_heads(model) if model.smeared_keys or head[0] < last)


def head_scores(heads: pd.DataFrame, measure: str) -> HeadScores:
    """Pivot one measure of the table `heads`.

    Raises RecordsError where a snapshot holds a head twice, or lacks one that others hold.
    """
    chosen = heads.query("measure == @measure")
    if chosen.duplicated(["step", "layer", "head"]).any():
        raise RecordsError(f"heads: {measure} is there twice for one head at one step")
    wide = chosen.pivot(index=["step", "tokens"], columns=["layer", "head"], values="value")
    wide = wide.sort_index().sort_index(axis="columns")
    if len(chosen) != wide.size:
        raise RecordsError(f"heads: {measure} lacks some heads at some snapshots")
    return HeadScores(
        wide.index.get_level_values("step").to_numpy(np.int64),
        wide.index.get_level_values("tokens").to_numpy(np.int64),
        tuple((int(layer), int(head)) for layer, head in wide.columns),
        wide.to_numpy(np.float64),
    )


def best_heads(run: RunDirectory, measure: str, tokens: float | None = None) -> list[tuple[str, float]]:
    """Counted heads with their score, best first, at the last snapshot (the last up to `tokens` where that is given).

    An empty list where the model has no attention. Raises RecordsError where no such snapshot was measured, or the
    records cannot be read.
    """
    allowed = counted_heads(run.typed(ModelOptions, "model"))
    if not allowed:
        return []
    scores = head_scores(run.table("heads").to_pandas(), measure).only(allowed)
    until = len(scores.tokens) if tokens is None else int(np.searchsorted(scores.tokens, tokens, side="right"))
    if until == 0:
        moment = "" if tokens is None else f" up to {tokens:g} tokens"
        raise RecordsError(f"{run.path}: no snapshot holds {measure}{moment}")
    last = scores.values[until - 1]
    return [(head_name(scores.heads[i]), float(last[i])) for i in np.argsort(-last, kind="stable")]
