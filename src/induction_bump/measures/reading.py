"""One pass of the plain model over a probe: token losses and head scores together, in bounded memory.

Nothing of size B × T × V or B × H × T × T is ever held whole: the unembedding goes through in pieces, head scores
read single entries of one layer's pattern, and sequences go in small batches.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from induction_bump.measures.heads import Lookup, head_scores
from induction_bump.measures.statistics import NotFiniteError
from induction_bump.model.attention import entries_of_pattern
from induction_bump.model.transformer import Site, Tap, Transformer, next_token_losses

TOKENS_AT_ONCE = 8192
"""Tokens of one batch; enough to keep two cores or a GPU busy."""
LOGITS_AT_ONCE = 1 << 22
"""Logits that are held at once."""


@dataclass(frozen=True)
class Reading:
    """What one pass over N sequences of L tokens gave."""

    losses: npt.NDArray[np.float32]
    """N × (L − 1) token losses in nats; empty where they were not asked for."""
    scores: dict[str, npt.NDArray[np.float32]]
    """Head scores of each sequence: name → N × layers × H."""


@torch.no_grad()
def read(
    model: Transformer, tokens: npt.NDArray[np.int64], lookup: Lookup | None = None, *, losses: bool = True
) -> Reading:
    """Run the model on N × L tokens; `lookup` says which entries of the patterns the head scores need.

    Raises NotFiniteError where losses or patterns are not finite.
    """
    device = model.W_E.device
    size = max(1, TOKENS_AT_ONCE // tokens.shape[1])
    parts: list[Tensor] = []
    scores: dict[str, list[Tensor]] = {}
    # a fused head score needs only q and k, so the pass without losses ends at the last attention layer
    last = max((s.sublayer for s in model.attention_sublayers()), default=-1)
    for start in range(0, len(tokens), size):
        batch = torch.from_numpy(tokens[start : start + size]).to(device)
        here = lookup.rows(start, start + len(batch), device) if lookup else None
        found: list[dict[str, Tensor]] = []
        # the loss of t_k needs only t_0 … t_{k−1}; a lookup may query the last token too
        inputs = batch if lookup and lookup.keys.shape[1] == batch.shape[1] else batch[:, :-1]
        residual = model.run(model.embed(inputs), _score_tap(here, found), stop=None if losses else last + 1)
        if losses:
            parts.append(_losses(model, residual[:, : batch.shape[1] - 1], batch[:, 1:]).cpu())
        for name in found[0] if found else ():
            scores.setdefault(name, []).append(torch.stack([layer[name] for layer in found], dim=1).cpu())
    return Reading(
        torch.cat(parts).numpy() if parts else np.empty((0, 0), np.float32),
        {name: torch.cat(values).numpy() for name, values in scores.items()},
    )


def _score_tap(lookup: Lookup | None, found: list[dict[str, Tensor]]) -> Tap:
    """Collects q, then reads the entries as soon as the layer's k is there."""
    waiting: list[Tensor] = []

    def at(site: Site, tensor: Tensor) -> None:
        if site.name == "q":
            waiting.append(tensor)
        elif lookup is not None:
            entries = entries_of_pattern(waiting.pop(), tensor, lookup.keys)
            found.append(head_scores(entries, lookup))

    return Tap(frozenset({"q", "k"} if lookup else ()), at)


def _losses(model: Transformer, residual: Float[Tensor, "B T D"], targets: Tensor) -> Float[Tensor, "B T"]:
    rows = max(1, LOGITS_AT_ONCE // model.vocab_size)
    pieces = zip(residual.flatten(0, 1).split(rows), targets.flatten().split(rows), strict=True)
    losses = [next_token_losses(model.unembed(x[None]), t[None])[0] for x, t in pieces]
    flat = torch.cat(losses)
    if not bool(torch.isfinite(flat).all()):
        raise NotFiniteError("the model's losses are not finite")
    return flat.view(targets.shape)
