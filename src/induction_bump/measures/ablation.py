"""Ablations: what is lost when a head, or a group of heads, writes nothing or its mean.

Defined in docs/measures/definitions.md#interventions.

Let z_h be the mixed values of head h, before W_O. An ablation replaces z_h at every position and computes everything
that lies after it again:

| kind | z_h becomes | later attention patterns |
|---|---|---|
| `zero` | 0 | as they come out |
| `mean` | its mean, position by position, over the examples that have the position | as they come out |
| `pattern_preserving` | 0 | those of the intact model, in every later head |

One pass of the intact model records z and the patterns; each ablation of a head of layer l then starts at layer l with
what the others write, so that N heads cost N passes of what lies after them. Below the last attention layer no pattern
is left to preserve, and `zero` and `pattern_preserving` are the same numbers.

Shapes: B batch, T positions, D d_model, H heads, K d_head, N examples.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from induction_bump.measures.batches import batches
from induction_bump.measures.ranks import ALONE, Ranks
from induction_bump.measures.reading import token_losses
from induction_bump.model.transformer import Attention, Site, Tap, Transformer

Kind = Literal["zero", "mean", "pattern_preserving"]
Head = tuple[int, int]
"""(layer, head), both from 0."""
Losses = npt.NDArray[np.float32]
Means = Mapping[int, Float[Tensor, "T H K"]]
"""By layer: z averaged over examples."""


@dataclass(frozen=True)
class Ablated:
    """Token losses of N examples, each N × T."""

    intact: Losses
    changed: Mapping[tuple[Kind, frozenset[Head]], Losses]
    """By kind and by the set of heads that were ablated together."""


@torch.no_grad()
def ablate(
    model: Transformer,
    tokens: npt.NDArray[np.int64],
    groups: Collection[frozenset[Head]],
    kinds: Collection[Kind],
    means: Means | None = None,
) -> Ablated:
    """Token losses with each group of heads ablated in each way, on N × (T + 1) tokens.

    Args: means, of z for `mean`; those of these tokens are taken where it is None, none of which may be padding.
    Raises ValueError for a head that the model does not have, NotFiniteError for losses that are not finite.
    """
    _check(model, groups)
    if "mean" in kinds and means is None:
        means = mean_z(model, tokens)
    intact: list[Tensor] = []
    changed: dict[tuple[Kind, frozenset[Head]], list[Tensor]] = {}
    for windows in batches(model, tokens, patterns="pattern_preserving" in kinds):
        base = _Intact.of(model, windows[:, :-1], patterns="pattern_preserving" in kinds)
        intact.append(token_losses(model, base.end, windows[:, 1:]).cpu())
        for group in groups:
            for kind, end in _ends(model, base, group, kinds, means or {}):
                losses = intact[-1] if end is None else token_losses(model, end, windows[:, 1:]).cpu()
                changed.setdefault((kind, group), []).append(losses)
    return Ablated(torch.cat(intact).numpy(), {key: torch.cat(parts).numpy() for key, parts in changed.items()})


def every_head(model: Transformer) -> list[frozenset[Head]]:
    """Each head by itself, in order."""
    options = model.options
    return [frozenset([(layer, head)]) for layer in range(options.n_attention) for head in range(options.n_heads)]


@torch.no_grad()
def mean_z(
    model: Transformer,
    tokens: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.integer] | None = None,
    ranks: Ranks = ALONE,
) -> dict[int, Float[Tensor, "T H K"]]:
    """By layer: what each head mixes, averaged over N × (T + 1) tokens, position by position.

    Args: lengths, N: how many of a row's tokens are a sequence, the rest being padding that has no part in the mean
    (all T + 1 where it is None); ranks, each of which sums over a share of the examples.
    Returns 0 at positions that no sequence has.
    """
    lengths = np.full(len(tokens), tokens.shape[1]) if lengths is None else lengths
    there = np.arange(tokens.shape[1] - 1) < lengths[:, None]  # N × T

    def of_share(here: slice) -> dict[int, npt.NDArray[np.float32]]:
        sums: dict[int, Tensor] = {}
        counted = torch.from_numpy(there[here]).to(model.W_E.device)
        first = 0

        def add(site: Site, z: Tensor) -> None:
            mine = counted[first : first + len(z), :, None, None]
            sums[site.layer] = sums.get(site.layer, 0) + (z * mine).sum(0)

        for windows in batches(model, tokens[here], patterns=False):
            model.run(model.embed(windows[:, :-1]), Tap(frozenset({"z"}), add), stop=_after_last_attention(model))
            first += len(windows)
        return {layer: z.cpu().numpy() for layer, z in sums.items()}

    totals = ranks.total(len(tokens), of_share)
    counts = np.maximum(there.sum(0), 1)[:, None, None].astype(np.float32)
    return {layer: torch.from_numpy(total / counts).to(model.W_E.device) for layer, total in totals.items()}


@dataclass
class _Intact:
    """What an intact pass leaves for the ablations of its batch."""

    before: dict[int, Float[Tensor, "B T D"]] = field(default_factory=dict)
    """By attention layer: the residual stream before it."""
    z: dict[int, Float[Tensor, "B T H K"]] = field(default_factory=dict)
    pattern: dict[int, Float[Tensor, "B H T T"]] = field(default_factory=dict)
    end: Tensor = field(default_factory=lambda: torch.empty(0))
    """The residual stream after the last sublayer."""

    @classmethod
    def of(cls, model: Transformer, tokens: Tensor, *, patterns: bool) -> "_Intact":
        """Run the model once. The first layer's patterns are not kept: nothing is ablated before it."""
        found = cls()

        def at(site: Site, tensor: Tensor) -> None:
            if site.name == "residual" and site.layer >= 0:
                found.before[site.layer] = tensor
            elif site.name == "z":
                found.z[site.layer] = tensor
            elif site.name == "pattern" and site.layer > 0:
                found.pattern[site.layer] = tensor

        names = {"residual", "z", "pattern"} if patterns else {"residual", "z"}
        found.end = model.run(model.embed(tokens), Tap(frozenset(names), at))
        return found


def _ends(
    model: Transformer, base: _Intact, group: frozenset[Head], kinds: Collection[Kind], means: Means
) -> Iterator[tuple[Kind, Tensor | None]]:
    """The last residual stream under each kind of ablation; None where it is that of the intact model."""
    layers = list(model.attention_sublayers())
    last = len(layers) - 1
    same: Tensor | None = None
    for kind in sorted(kinds, reverse=True):  # zero before pattern_preserving
        if not group:
            yield kind, None
        elif kind == "pattern_preserving" and same is not None and min(layer for layer, _ in group) == last:
            yield kind, same
        else:
            end = _end(model, base, layers, group, kind, means)
            if kind == "zero":
                same = end
            yield kind, end


def _end(
    model: Transformer,
    base: _Intact,
    layers: Sequence[Attention],
    group: frozenset[Head],
    kind: Kind,
    means: Means,
) -> Tensor:
    first = min(layer for layer, _ in group)

    def ablated(layer: int, z: Tensor) -> Tensor:
        heads = [head for at, head in group if at == layer]
        z = z.clone()
        z[:, :, heads] = means[layer][: z.shape[1], heads] if kind == "mean" else 0
        return z

    def at(site: Site, z: Tensor) -> Tensor | None:
        return ablated(site.layer, z) if any(layer == site.layer for layer, _ in group) else None

    def given(site: Site) -> Tensor | None:
        return base.pattern[site.layer] if kind == "pattern_preserving" else None

    x = base.before[first] + layers[first].write(ablated(first, base.z[first]))
    return model.run(x, Tap(frozenset({"z"}), at, given), start=layers[first].sublayer + 1)


def _check(model: Transformer, groups: Collection[frozenset[Head]]) -> None:
    layers, heads = model.options.n_attention, model.options.n_heads
    for layer, head in {head for group in groups for head in group}:
        if not (0 <= layer < layers and 0 <= head < heads):
            raise ValueError(f"L{layer}H{head} does not exist; this model has {layers} layers of {heads} heads")


def _after_last_attention(model: Transformer) -> int:
    return 1 + max((s.sublayer for s in model.attention_sublayers()), default=-1)
