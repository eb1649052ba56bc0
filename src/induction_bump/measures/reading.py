"""One pass of the plain model over a probe: token losses and head scores together, in bounded memory.

Nothing of size B × T × V or B × H × T × T is ever held whole: the unembedding goes through in pieces, head scores
read single entries of one layer's pattern, and sequences go in small batches.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from induction_bump.measures.heads import Lookup, head_scores
from induction_bump.measures.ngrams import Ngrams
from induction_bump.measures.ranks import ALONE, Ranks
from induction_bump.measures.statistics import NotFiniteError
from induction_bump.model.attention import entries_of_pattern
from induction_bump.model.transformer import Site, Tap, Transformer, next_token_losses

TOKENS_AT_ONCE = 8192
"""Tokens of one batch; enough to keep two cores or a GPU busy."""
LOGITS_AT_ONCE = 1 << 22
"""Logits that are held at once."""
_SILENT = Tap(frozenset(), lambda site, tensor: None)


@dataclass(frozen=True)
class Reading:
    """What one pass over N sequences of L tokens gave."""

    losses: npt.NDArray[np.float32]
    """N × (L − 1) token losses in nats; empty where they were not asked for."""
    scores: dict[str, npt.NDArray[np.float32]]
    """Head scores of each sequence: name → N × layers × H."""
    bigram_kl: npt.NDArray[np.float32]
    """N × (L − 1), KL(p_bigram(· | t_{k−1}) ‖ p_model(· | t_0 … t_{k−1})) in nats; empty where it was not asked for."""


@torch.no_grad()
def read(
    model: Transformer,
    tokens: npt.NDArray[np.int64],
    lookup: Lookup | None = None,
    *,
    losses: bool = True,
    ngrams: Ngrams | None = None,
    ranks: Ranks = ALONE,
) -> Reading:
    """Run the model on N × L tokens; `lookup` says which entries of the patterns the head scores need.

    `ngrams`, of the model's vocabulary, asks for `bigram_kl` beside the losses. Each of `ranks` runs a share of the
    sequences, and all get the whole. Raises NotFiniteError where losses or patterns are not finite.
    """
    assert losses or ngrams is None, "the divergence from the bigram model is read off the logits of the losses"
    found = ranks.whole(len(tokens), lambda here: _read(model, tokens[here], here.start, lookup, losses, ngrams))
    of_losses, of_bigrams = (found.pop(name, np.empty((0, 0), np.float32)) for name in ("losses", "bigram_kl"))
    return Reading(of_losses, found, of_bigrams)


def _read(
    model: Transformer,
    tokens: npt.NDArray[np.int64],
    first: int,
    lookup: Lookup | None,
    losses: bool,
    ngrams: Ngrams | None,
) -> dict[str, npt.NDArray[np.float32]]:
    """What a Reading holds, of the sequences from number `first` on; what was not asked for is left out."""
    device = model.W_E.device
    size = max(1, TOKENS_AT_ONCE // tokens.shape[1])
    parts: list[Tensor] = []
    divergences: list[Tensor] = []
    bigrams = _Bigrams.under(model, ngrams, tokens[:, :-1]) if ngrams else None
    scores: dict[str, list[Tensor]] = {}
    # a fused head score needs only q and k, so the pass without losses ends at the last attention layer
    last = max((s.sublayer for s in model.attention_sublayers()), default=-1)
    for start in range(0, len(tokens), size):
        batch = torch.from_numpy(tokens[start : start + size]).to(device)
        here = lookup.rows(first + start, first + start + len(batch), device) if lookup else None
        found: list[dict[str, Tensor]] = []
        # the loss of t_k needs only t_0 … t_{k−1}; a lookup may query the last token too
        inputs = batch if lookup and lookup.keys.shape[1] == batch.shape[1] else batch[:, :-1]
        residual = model.run(model.embed(inputs), _score_tap(model, here, found), stop=None if losses else last + 1)
        if losses:
            end = residual[:, : batch.shape[1] - 1]
            of_tokens = token_losses(model, end, batch[:, 1:])
            parts.append(of_tokens.cpu())
            if bigrams:
                divergences.append(bigrams.divergences(model, end, of_tokens, batch).cpu())
        for name in found[0] if found else ():
            scores.setdefault(name, []).append(torch.stack([layer[name] for layer in found], dim=1).cpu())
    arrays = {"losses": parts, "bigram_kl": divergences, **scores}
    return {name: torch.cat(pieces).numpy() for name, pieces in arrays.items() if pieces}


def _score_tap(model: Transformer, lookup: Lookup | None, found: list[dict[str, Tensor]]) -> Tap:
    """Collects q, then reads the entries as soon as the layer's k is there."""
    waiting: list[Tensor] = []

    def at(site: Site, tensor: Tensor) -> None:
        if site.name == "q":
            waiting.append(tensor)
        elif lookup is not None:
            entries = entries_of_pattern(waiting.pop(), tensor, lookup.keys, bias=model.score_bias(site.layer))
            found.append(head_scores(entries, lookup))

    return Tap(frozenset({"q", "k"} if lookup else ()), at)


@dataclass(frozen=True)
class _Bigrams:
    """What the bigram model expects of a model's logits.

    Logits are linear in x, the residual stream after the final norm, so that with a = t_{k−1} and v ~ p_bigram(· | a)

        KL = −H(a) + ln Σ_v exp logit_v − E logit_v = loss[k] + logit_{t_k} − E logit_v − H(a),

    where E logit_v = x · m_a + c_a, m_a = E W_U[:, v], c_a = E b_U[v]: two products of length D a token, where a sum
    over the vocabulary would cost as much as the logits.
    """

    row: Int[Tensor, " V"]
    """Which row a context has, of the A contexts that the probe holds."""
    m: Float[Tensor, "A D"]
    """m_a."""
    constant: Float[Tensor, " A"]
    """−H(a) − c_a."""
    W_U: Float[Tensor, "V D"]
    """Transposed, so that a token's is one stretch of memory."""

    @classmethod
    def under(cls, model: Transformer, ngrams: Ngrams, contexts: npt.NDArray[np.int64]) -> "_Bigrams":
        """For the contexts of a probe and the model's unembedding."""
        assert ngrams.vocab_size == model.vocab_size, (ngrams.vocab_size, model.vocab_size)
        W_U = model.unembedding.T.contiguous()
        there = np.flatnonzero(np.bincount(contexts.ravel(), minlength=ngrams.vocab_size))
        constant = torch.from_numpy(-ngrams.entropies[there]).to(W_U)
        m = W_U.new_empty(len(there), W_U.shape[1])
        size = max(1, LOGITS_AT_ONCE // ngrams.vocab_size)
        for start in range(0, len(there), size):
            here = slice(start, start + size)
            p = torch.from_numpy(ngrams.rows(there[here])).to(W_U)  # (A, V)
            m[here] = p @ W_U
            if model.b_U is not None:
                constant[here] -= p @ model.b_U
        row = torch.zeros(ngrams.vocab_size, dtype=torch.long)
        row[there] = torch.arange(len(there))
        return cls(row.to(W_U.device), m, constant, W_U)

    def divergences(
        self, model: Transformer, residual: Float[Tensor, "B T D"], losses: Float[Tensor, "B T"], tokens: Tensor
    ) -> Float[Tensor, "B T"]:
        """KL(p_bigram ‖ p_model) at each position, from the residual stream after the last sublayer: B × T."""
        x = model.norm(residual, _SILENT, len(model.sublayers))
        row, target = self.row[tokens[:, :-1]], tokens[:, 1:]
        difference = (x * (self.W_U[target] - self.m[row])).sum(-1)  # logit_{t_k} − E logit_v, biases apart
        if model.b_U is not None:
            difference = difference + model.b_U[target]
        return losses + difference + self.constant[row]


def token_losses(
    model: Transformer, residual: Float[Tensor, "B T D"], targets: Int[Tensor, "B T"], tap: Tap = _SILENT
) -> Float[Tensor, "B T"]:
    """loss[b, k − 1] of the targets t_1 … t_T, from the residual stream after the last sublayer, in nats.

    `tap` may replace the final norm's scale. Logits are formed for a few tokens at a time. Raises NotFiniteError where
    a loss is not finite.
    """
    rows = max(1, LOGITS_AT_ONCE // model.vocab_size)
    normed = model.norm(residual, tap, len(model.sublayers))
    pieces = zip(normed.flatten(0, 1).split(rows), targets.flatten().split(rows), strict=True)
    losses = [next_token_losses(model.logits(x[None]), t[None])[0] for x, t in pieces]
    flat = torch.cat(losses)
    if not bool(torch.isfinite(flat).all()):
        raise NotFiniteError("the model's losses are not finite")
    return flat.view(targets.shape)
