"""Causal attention: one function, two kernels that agree.

- The fused kernel trains: it never forms the pattern.
- The explicit kernel forms scores and pattern, and is taken where somebody reads or replaces them.
- Both read the same scores, `pre_softmax_scores`, which is also what the head scores are computed from.

B batch, T positions, H heads, K d_head.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

Heads = Float[Tensor, "B T H K"]
Pattern = Float[Tensor, "B H Q T"]

ReadPattern = Callable[[str, Tensor], Tensor]
"""Called with "scores" and with "pattern"; returns what attention goes on with."""


def pre_softmax_scores(q: Heads, k: Heads, first_query: int = 0, bias: Float[Tensor, "H T T"] | None = None) -> Pattern:
    """Scores s_ij = q_i · k_j / √K + bias_ij, −∞ where j is later than i.

    `q` may hold only the queries from position `first_query` on, so that long contexts go in chunks.
    Returns scores of shape B H Q T, Q being the number of queries given.
    """
    queries, keys = q.shape[1], k.shape[1]
    # scaling q costs K per query, scaling the scores would cost T
    scores = torch.einsum("bqhk,bthk->bhqt", q / math.sqrt(q.shape[-1]), k)
    if bias is not None:
        scores = scores + bias[:, first_query : first_query + queries, :keys]
    future = torch.ones(queries, keys - first_query, dtype=torch.bool, device=q.device).triu(1)
    scores[..., first_query:].masked_fill_(future, -torch.inf)  # keys before the first query are past for all
    return scores


def attend(
    q: Heads,
    k: Heads,
    v: Heads,
    *,
    bias: Float[Tensor, "H T T"] | None = None,
    read_pattern: ReadPattern | None = None,
) -> Heads:
    """Mix values by causal softmax attention, explicitly where `read_pattern` is given, else fused.

    `bias` is added to the pre-softmax scores (a clamp on chosen heads) and is −∞ where j is later than i, for as many
    positions or more. Returns B T H K.
    """
    if read_pattern is None:
        # on CPU the backward pass of the fused kernel takes three times as long in bfloat16 as in float32
        slow = q.device.type == "cpu" and q.dtype == torch.bfloat16
        heads_first = [(x.float() if slow else x).transpose(1, 2) for x in (q, k, v)]
        mask = None
        if bias is not None:
            mask = bias[:, : q.shape[1], : k.shape[1]].to(heads_first[0].dtype)
        with torch.autocast(q.device.type, enabled=False) if slow else nullcontext():
            mixed = F.scaled_dot_product_attention(*heads_first, attn_mask=mask, is_causal=bias is None)
        return mixed.transpose(1, 2).to(q.dtype)
    scores = read_pattern("scores", pre_softmax_scores(q, k, bias=bias))
    return mix(read_pattern("pattern", scores.softmax(-1)), v)


def mix(pattern: Pattern, v: Heads) -> Heads:
    """Values mixed by an attention pattern: B H Q T and B T H K → B Q H K."""
    return torch.einsum("bhqt,bthk->bqhk", pattern, v)


def smear(k: Heads, alpha: Float[Tensor, " H"]) -> Heads:
    """Smeared keys (O22): k_j ← σ(α_h) k_j + (1 − σ(α_h)) k_{j−1}; the first key stays as it is."""
    keep = torch.sigmoid(alpha)[:, None]
    return torch.cat([k[:, :1], keep * k[:, 1:] + (1 - keep) * k[:, :-1]], dim=1)


def rotary_tables(length: int, d_head: int, base: float) -> Float[Tensor, "2 T K"]:
    """Cosines and signed sines of position · base^(−2i / d_head), for the positions 0 … length − 1."""
    frequencies = base ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)]).float()


def rotate(x: Heads, tables: Float[Tensor, "2 T K"]) -> Heads:
    """Rotate the pairs (x_i, x_{i + K/2}) of every head by their position's angles (Su et al. 2021)."""
    cos, sin = tables[:, : x.shape[1], None].to(x.dtype).unbind(0)
    # rolling by half brings each feature's partner to its place; the sign is in the table
    return x * cos + x.roll(x.shape[-1] // 2, -1) * sin


def sinusoids(length: int, d_model: int) -> Float[Tensor, "T D"]:
    """Sinusoidal positions (Vaswani et al. 2017): sines in the first half of the features, cosines in the second."""
    frequencies = 10_000.0 ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1).float()


def entries_of_pattern(
    q: Heads,
    k: Heads,
    keys: Int[Tensor, "B T M"],
    *,
    bias: Float[Tensor, "H T T"] | None = None,
    chunk_bytes: int = 1 << 22,
) -> Float[Tensor, "B H T M"]:
    """Chosen entries A[i, j] of the attention pattern, the softmax of s_ij over j, without holding the pattern.

    keys: for every query position i the M positions j ≤ i that are read, −1 where there is none (the entry is 0).
    Scores are formed for a few queries at a time, of at most `chunk_bytes`.
    """
    batch, length, heads, _ = q.shape
    size = max(1, chunk_bytes // (batch * heads * length * q.element_size()))
    entries = q.new_empty(batch, heads, *keys.shape[1:])
    k = k.transpose(1, 2).contiguous().transpose(1, 2)  # else every chunk's product copies it again
    for start in range(0, length, size):
        stop = min(start + size, length)
        scores = pre_softmax_scores(q[:, start:stop], k[:, :stop], start, bias)  # (B, H, Q, stop)
        column = keys[:, None, start:stop].expand(-1, heads, -1, -1)
        # one fused softmax takes a third of the time of a logsumexp
        entries[:, :, start:stop] = scores.softmax(-1).gather(-1, column.clamp(min=0)).masked_fill(column < 0, 0)
    return entries
