"""A transformer written with loops over heads and positions, straight from the definitions, in float64."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from induction_bump.model.transformer import Attention, Transformer

OnHead = Callable[[int, int, Tensor, Tensor], Tensor]
"""Called with layer, head, mixed values z (T × K) and pattern (T × T); returns the z to go on with."""
Patterns = dict[tuple[int, int], Tensor]


def naive_logits(
    model: Transformer,
    tokens: Tensor,
    on_head: OnHead = lambda layer, head, z, pattern: z,
    given: Patterns | None = None,
) -> Tensor:
    """Logits of one sequence, T × V; with `given` patterns instead of those that queries and keys make."""
    o = model.options
    p = {name: value.detach().double() for name, value in model.named_parameters()}
    x = p["W_E"][tokens].clone()
    T = len(tokens)
    if o.positions == "learned":
        x = x + p["W_pos"][:T]
    for index, sublayer in enumerate(model.sublayers):
        layer = o.sublayers[:index].count("s")
        own = {n.removeprefix(f"sublayers.{index}."): v for n, v in p.items() if n.startswith(f"sublayers.{index}.")}
        read = _norm(x, own.get("norm.gain"), own.get("norm.bias"), o.norm)
        if isinstance(sublayer, Attention):
            written = _attention(read, own, o, layer, on_head, given)
        else:
            written = _feed_forward(read, own, o)
        x = x + written
    out = _norm(x, p.get("norm.gain"), p.get("norm.bias"), o.norm)
    logits = out @ (p["W_E"].T if o.tied else p["W_U"])
    return logits + p["b_U"] if o.biases else logits


def _norm(x: Tensor, gain: Tensor | None, bias: Tensor | None, kind: str) -> Tensor:
    if kind == "none":
        return x
    rows = []
    for row in x:
        centred = row - row.mean() if kind == "layernorm" else row
        rows.append(centred / torch.sqrt((centred**2).mean() + 1e-5))
    out = torch.stack(rows) * gain
    return out if bias is None else out + bias


def _attention(read: Tensor, w: dict[str, Tensor], o, layer: int, on_head: OnHead, given: Patterns | None) -> Tensor:
    T, D = read.shape
    written = torch.zeros(T, D, dtype=torch.float64)
    for h in range(o.n_heads):
        K = o.width_of_head
        qs, ks, vs = [], [], []
        for i in range(T):
            at = read[i]
            if o.positions == "shortformer":
                frequency = [10_000.0 ** (-2 * m / D) for m in range(D // 2)]
                at = at + torch.tensor([math.sin(i * f) for f in frequency] + [math.cos(i * f) for f in frequency])
            q, k, v = at @ w["W_Q"][:, h], at @ w["W_K"][:, h], read[i] @ w["W_V"][:, h]
            if o.biases:
                q, k, v = q + w["b_Q"][h], k + w["b_K"][h], v + w["b_V"][h]
            qs.append(q)
            ks.append(k)
            vs.append(v)
        if o.smeared_keys:
            keep = 1 / (1 + math.exp(-float(w["alpha"][h])))
            ks = [ks[0]] + [keep * ks[j] + (1 - keep) * ks[j - 1] for j in range(1, T)]
        if o.positions == "rotary":
            qs = [_rotated(q, i, K, o.rotary_base) for i, q in enumerate(qs)]
            ks = [_rotated(k, i, K, o.rotary_base) for i, k in enumerate(ks)]
        pattern = torch.zeros(T, T, dtype=torch.float64)
        for i in range(T):
            scores = [float(qs[i] @ ks[j]) / math.sqrt(K) + _clamp(o, layer, h, i, j) for j in range(i + 1)]
            weights = [math.exp(s - max(scores)) for s in scores]
            for j, a in enumerate(weights):
                pattern[i, j] = a / sum(weights)
        if given is not None:
            pattern = given[layer, h]
        z = torch.stack([sum(pattern[i, j] * vs[j] for j in range(i + 1)) for i in range(T)])
        if any((c.layer, c.head, c.kind) == (layer, h, "zero") for c in o.clamps):
            z = torch.zeros_like(z)
        written += on_head(layer, h, z, pattern) @ w["W_O"][h]
    return written + w["b_O"] if o.biases else written


def _clamp(o, layer: int, head: int, i: int, j: int) -> float:
    """The bias of clamps on the score of query i and key j."""
    places = {"previous": i - 1, "second_previous": i - 2, "first": 0}
    mine = (c for c in o.clamps if (c.layer, c.head) == (layer, head))
    return sum(c.strength for c in mine if places.get(c.kind, -1) == j)


def _rotated(x: Tensor, position: int, K: int, base: float) -> Tensor:
    out = x.clone()
    for m in range(K // 2):
        angle = position * base ** (-2 * m / K)
        a, b = x[m], x[m + K // 2]
        out[m] = a * math.cos(angle) - b * math.sin(angle)
        out[m + K // 2] = b * math.cos(angle) + a * math.sin(angle)
    return out


def _feed_forward(read: Tensor, w: dict[str, Tensor], o) -> Tensor:
    hidden = read @ w["W_in"] + (w["b_in"] if o.biases else 0)
    if o.activation == "relu":
        hidden = hidden.clamp(min=0)
    elif o.activation == "gelu":
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    else:
        exponentials = hidden.exp()
        hidden = hidden * exponentials / exponentials.sum(-1, keepdim=True)
    written = hidden @ w["W_out"]
    return written + w["b_out"] if o.biases else written
