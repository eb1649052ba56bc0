"""Does a head raise the logits of the tokens that it attends to (docs/measures/definitions.md#copying_logit, O22)?

B batch, n tokens after BOS, H heads, K d_head, D d_model, V vocabulary.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from induction_bump.measures.batches import batches
from induction_bump.measures.folding import Head, fold_into
from induction_bump.measures.ranks import ALONE, Ranks
from induction_bump.measures.statistics import Estimate, NotFiniteError, clustered_mean
from induction_bump.model.transformer import Site, Tap, Transformer

HeadEstimates = dict[str, dict[Head, tuple[float, float | None]]]
"""Label → head → value and standard error, None where a single sequence speaks."""


@dataclass(frozen=True)
class CopyingLogit:
    """What `copying_logit` gives."""

    heads: HeadEstimates
    """`copying_logit` 4s − 1 and `copying_logit_share` s, for heads with a position that counts, and
    `copying_logit_left_out`, the share of positions that do not, for all."""
    chance: float
    """4/n − 1, what uniform attention and raises that do not depend on it give."""


@torch.no_grad()
def copying_logit(model: Transformer, tokens: npt.NDArray[np.int64], ranks: Ranks = ALONE) -> CopyingLogit:
    """4s − 1 for the share s of what a head raises that falls on the tokens it attends to (O22).

    tokens: N × (1 + n), BOS and a sample of n distinct tokens. For every query i = 1 … n: the head's direct
    contribution to the logits is c = z_i W_O W_U, the final norm's gain and centring in W_U; its raise is
    r = ReLU(c − mean of c over the vocabulary). With the head's pattern A, a = Σ_{j=1…i} A_ij r[t_j] is the raise on
    attended tokens and Σ = Σ_{j=1…i} A_ij Σ_{u ≠ t_j} r[u] that on the sample's others; BOS is attended to and is no
    part of the sample. s is the mean of a/(a + Σ), which the norm's positive scale does not change, over the queries
    with a + Σ > 0, attention or raise that float32 can hardly tell from 0 counting as 0. Standard errors are over
    sequences, of which each of `ranks` reads a share.

    Raises NotFiniteError for a model whose activations are not finite, ValueError for sequences in which a token comes
    twice.
    """
    ordered = np.sort(tokens, axis=1)
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        raise ValueError("copying_logit reads sequences in which no token comes twice")
    if not model.options.n_attention:
        return CopyingLogit({}, 4 / (tokens.shape[1] - 1) - 1)
    unembedding = fold_into(model.norm, model.unembedding.T)  # (V, D)
    mean = unembedding.mean(0)
    last = max(sublayer.sublayer for sublayer in model.attention_sublayers())

    def of_share(here: slice) -> dict[str, npt.NDArray[np.float64]]:
        sums: list[Tensor] = []
        counts: list[Tensor] = []
        for batch in batches(model, tokens[here]):
            reader = _Reader(model, unembedding[batch[:, 1:]] - mean, [], [], [])
            model.run(model.embed(batch), Tap(frozenset({"pattern", "z"}), reader.at), stop=last + 1)
            sums.append(torch.stack(reader.sums, dim=1).cpu())
            counts.append(torch.stack(reader.counts, dim=1).cpu())
        return {"sums": torch.cat(sums).double().numpy(), "counts": torch.cat(counts).double().numpy()}

    found = ranks.whole(len(tokens), of_share)
    return _summary(found["sums"], found["counts"], tokens.shape[1] - 1)


@dataclass(frozen=True)
class _Reader:
    """Takes shares as soon as a layer's `z` is there, so that one layer's pattern is held at a time."""

    model: Transformer
    sample: Float[Tensor, "B n D"]
    """The unembedding of every sequence's tokens, centred over the vocabulary."""
    patterns: list[Tensor]
    sums: list[Float[Tensor, "B H"]]
    counts: list[Int[Tensor, "B H"]]

    def at(self, site: Site, tensor: Tensor) -> None:
        """What the tap calls."""
        if site.name == "pattern":
            self.patterns.append(tensor)
            return
        W_O = self.model.sublayers[site.sublayer].W_O
        assert isinstance(W_O, Tensor)
        shares, there = _shares(self.patterns.pop(), tensor, torch.einsum("hkd,bud->bhku", W_O, self.sample))
        self.sums.append(shares.sum(-1))
        self.counts.append(there.sum(-1))


def _shares(
    pattern: Float[Tensor, "B H T T"], z: Float[Tensor, "B T H K"], read: Float[Tensor, "B H K n"]
) -> tuple[Float[Tensor, "B H n"], Bool[Tensor, "B H n"]]:
    """a/(a + Σ) of every query after BOS, 0 where there is no raise, and whether there is one."""
    attended = pattern[:, :, 1:, 1:]  # token u of the sample stands at position u, so the last axis is j and u alike
    raised = torch.einsum("bihk,bhku->bhiu", z[:, 1:], read).relu()
    if not bool(torch.isfinite(raised).all() and torch.isfinite(attended).all()):
        raise NotFiniteError("attention patterns or head outputs are not finite")
    # a + Σ is the product of both totals; dividing by one after the other keeps small ones from vanishing
    attention, total = attended.sum(-1), raised.sum(-1)
    there = (attention >= _SMALLEST) & (total >= _SMALLEST)
    part = (attended / attention.clamp(min=_SMALLEST)[..., None]) * (raised / total.clamp(min=_SMALLEST)[..., None])
    return part.sum(-1) * there, there


_SMALLEST = torch.finfo(torch.float32).tiny


def _summary(sums: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], positions: int) -> CopyingLogit:
    """From each sequence's sum of shares and number of queries that count, N × layers × H."""
    heads: HeadEstimates = {"copying_logit": {}, "copying_logit_share": {}, "copying_logit_left_out": {}}
    left_out = clustered_mean(1 - counts / positions)
    for layer, head in np.ndindex(*counts.shape[1:]):
        at = (layer, head)
        heads["copying_logit_left_out"][at] = (float(left_out.value[at]), float(left_out.stderr[at]))
        own = counts[:, layer, head]
        if not own.any():
            continue
        share: Estimate = clustered_mean(sums[:, layer, head], counts=own)
        stderr = float(share.stderr) if np.count_nonzero(own) > 1 else None
        heads["copying_logit_share"][at] = (float(share), stderr)
        heads["copying_logit"][at] = (4 * float(share) - 1, None if stderr is None else 4 * stderr)
    return CopyingLogit({label: values for label, values in heads.items() if values}, 4 / positions - 1)
