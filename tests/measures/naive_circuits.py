"""The measures of heads' weights written straight from their definitions: D × D and V × V matrices, and loops."""

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from induction_bump.model.transformer import EPSILON, Attention, Tap, Transformer

Head = tuple[int, int]


@dataclass
class Dense:
    """A model's folded weights, whole."""

    W_E: np.ndarray
    W_U: np.ndarray
    W_OV: dict[Head, np.ndarray]
    W_QK: dict[Head, np.ndarray]
    """Rotary: with the mean rotation inside."""
    W_QK_unrotated: dict[Head, np.ndarray]
    effective: np.ndarray | None
    """W_E plus the first feed-forward sublayer's output on it."""
    behind: dict[int, bool]
    """Layer → whether a feed-forward sublayer lies before it."""


def _array(x: Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def _reading(norm, D: int) -> np.ndarray:
    """C diag(g), which the norm multiplies rows by, but for its scale and bias."""
    if norm.kind == "none":
        return np.eye(D)
    return _centring(norm.kind, D) @ np.diag(_array(norm.gain))


def _centring(kind: str, D: int) -> np.ndarray:
    return np.eye(D) - np.ones((D, D)) / D if kind == "layernorm" else np.eye(D)


def rotation(distance: float, K: int, base: float) -> np.ndarray:
    """R with (q turned by i) · (k turned by j) = q R kᵀ, distance = i − j: feature m turns towards m + K/2."""
    R = np.zeros((K, K))
    for m in range(K // 2):
        angle = distance * base ** (-2 * m / K)
        R[m, m] = R[m + K // 2, m + K // 2] = math.cos(angle)
        R[m, m + K // 2], R[m + K // 2, m] = math.sin(angle), -math.sin(angle)
    return R


def dense(model: Transformer) -> Dense:
    """Fold by explicit D × D matrices."""
    o, D = model.options, model.options.d_model
    W_E = _array(model.W_E)
    W_U = _reading(model.norm, D) @ (W_E.T if o.tied else _array(model.W_U))
    found = Dense(W_E, W_U, {}, {}, {}, None, {})
    R = np.eye(o.width_of_head)
    if o.positions == "rotary":
        distances = range(1, model.context // 2 + 1)
        R = np.mean([rotation(d, o.width_of_head, o.rotary_base) for d in distances], axis=0)
    seen = False
    for sublayer in model.sublayers:
        if not isinstance(sublayer, Attention):
            if not seen:
                found.effective = np.stack([x + _feed_forward(x, sublayer, o) for x in W_E])
            seen = True
            continue
        found.behind[sublayer.layer] = seen
        N = _reading(sublayer.norm, D)
        for h in range(o.n_heads):
            at = (sublayer.layer, h)
            Q, K, V = (N @ _array(getattr(sublayer, name))[:, h] for name in ("W_Q", "W_K", "W_V"))
            found.W_OV[at] = V @ _array(sublayer.W_O)[h] @ _centring(o.norm, D)
            found.W_QK[at], found.W_QK_unrotated[at] = Q @ R @ K.T, Q @ K.T
    return found


def _feed_forward(x: np.ndarray, sublayer, o) -> np.ndarray:
    read = x
    if o.norm != "none":
        read = x - x.mean() if o.norm == "layernorm" else x
        read = read / math.sqrt((read**2).mean() + EPSILON) * _array(sublayer.norm.gain)
        if sublayer.norm.bias is not None:
            read = read + _array(sublayer.norm.bias)
    hidden = read @ _array(sublayer.W_in) + (_array(sublayer.b_in) if o.biases else 0)
    if o.activation == "relu":
        hidden = np.maximum(hidden, 0)
    elif o.activation == "gelu":
        hidden = np.array([u * 0.5 * (1 + math.erf(u / math.sqrt(2))) for u in hidden])
    else:
        hidden = hidden * np.exp(hidden) / np.exp(hidden).sum()
    return hidden @ _array(sublayer.W_out) + (_array(sublayer.b_out) if o.biases else 0)


def _ratio(matrix: np.ndarray) -> float:
    eigenvalues = np.linalg.eigvals(matrix)
    return float(eigenvalues.sum().real / np.abs(eigenvalues).sum())


def naive_copying_eigenvalue(model: Transformer) -> dict[str, dict[Head, float]]:
    """From the V × V matrix W_E W_OV W_U."""
    d = dense(model)
    V = len(d.W_E)
    P = np.eye(V) - np.ones((V, V)) / V
    values: dict[str, dict[Head, float]] = defaultdict(dict)
    for at, W_OV in d.W_OV.items():
        values["copying_eigenvalue"][at] = _ratio(d.W_E @ W_OV @ d.W_U @ P)
        values["copying_eigenvalue_raw"][at] = _ratio(d.W_E @ W_OV @ d.W_U)
        if d.behind[at[0]]:
            values["copying_eigenvalue_effective"][at] = _ratio(d.effective @ W_OV @ d.W_U @ P)
    return dict(values)


def naive_qk_terms(model: Transformer, previous_token: np.ndarray) -> dict[str, dict[Head, float]]:
    """From the V × V matrix of scores of every query token with every key token."""
    d, o = dense(model), model.options
    V = len(d.W_E)
    P = np.eye(V) - np.ones((V, V)) / V
    values: dict[str, dict[Head, float]] = defaultdict(dict)
    alphas = {s.layer: _array(s.alpha) for s in model.attention_sublayers()} if o.smeared_keys else None
    for layer, head in d.W_QK:
        at = (layer, head)
        keep = 1 / (1 + math.exp(-alphas[layer][head])) if alphas else 1.0
        for suffix, W_QK, centring, effective in (
            ("", d.W_QK[at], P, False),
            ("_raw", d.W_QK[at], np.eye(V), False),
            ("_offset0", d.W_QK_unrotated[at], P, False),
            ("_effective", d.W_QK[at], P, True),
        ):
            if (suffix == "_offset0" and o.positions != "rotary") or (effective and not d.behind[layer]):
                continue

            def key(of_layer: int, centring=centring, effective=effective) -> np.ndarray:
                return centring @ (d.effective if effective and d.behind[of_layer] else d.W_E)

            query = d.effective if effective else d.W_E
            if alphas:
                direct = np.trace(query @ W_QK @ key(layer).T)
                values[f"qk_trace_shifted_key{suffix}"][at] = (1 - keep) * float(direct)
            total, best, largest = 0.0, None, -math.inf
            for earlier in d.W_OV:
                if earlier[0] >= layer:
                    continue
                term = keep * query @ W_QK @ d.W_OV[earlier].T @ key(earlier[0]).T
                total += previous_token[earlier] * float(np.trace(term))
                if previous_token[earlier] > largest:
                    best, largest = term, previous_token[earlier]
            if best is not None:
                values[f"qk_trace{suffix}"][at] = total
                values[f"qk_eigenvalue{suffix}"][at] = _ratio(best)
    return dict(values)


def naive_composition(model: Transformer) -> dict[tuple[str, Head, Head], float]:
    """Ratios of norms of D × D matrices, the baseline not taken away."""
    d = dense(model)
    norm = np.linalg.norm
    values: dict[tuple[str, Head, Head], float] = {}
    for one in d.W_OV:
        for two in d.W_OV:
            if one[0] < two[0]:
                W_OV, W_QK = d.W_OV[one], d.W_QK_unrotated[two]
                values["q", one, two] = norm(W_OV @ W_QK) / (norm(W_OV) * norm(W_QK))
                values["k", one, two] = norm(W_OV @ W_QK.T) / (norm(W_OV) * norm(W_QK))
                values["v", one, two] = norm(W_OV @ d.W_OV[two]) / (norm(W_OV) * norm(d.W_OV[two]))
    return values


@torch.no_grad()
def naive_copying_logit(model: Transformer, tokens: np.ndarray) -> dict[str, dict[Head, tuple[float, float]]]:
    """Loops over sequences, heads, queries, keys and tokens, from whole logits; standard errors by the textbook."""
    W_U, N = dense(model).W_U, len(tokens)
    shares: dict[Head, list[list[float]]] = defaultdict(list)  # head → sequence → query that counts
    for sequence in tokens:
        seen: dict[tuple[str, int], np.ndarray] = {}
        tap = Tap(frozenset({"pattern", "z"}), lambda site, x: seen.__setitem__((site.name, site.layer), _array(x)[0]))  # noqa: B023
        model(torch.from_numpy(sequence)[None], tap)
        for sublayer in model.attention_sublayers():
            for head in range(model.options.n_heads):
                A, z = seen["pattern", sublayer.layer][head], seen["z", sublayer.layer][:, head]
                kept = []
                for i in range(1, len(sequence)):
                    c = z[i] @ _array(sublayer.W_O)[head] @ W_U
                    r = np.maximum(c - c.mean(), 0)
                    a = others = 0.0
                    for j in range(1, i + 1):
                        a += A[i, j] * r[sequence[j]]
                        others += A[i, j] * sum(r[u] for u in sequence[1:] if u != sequence[j])
                    if a + others > 0:
                        kept.append(a / (a + others))
                shares[sublayer.layer, head].append(kept)
    values: dict[str, dict[Head, tuple[float, float]]] = defaultdict(dict)
    positions = tokens.shape[1] - 1
    for at, by_sequence in shares.items():
        counts = np.array([len(kept) for kept in by_sequence])
        out = 1 - counts / positions
        values["copying_logit_left_out"][at] = (out.mean(), out.std(ddof=1) / math.sqrt(N))
        if not counts.any():
            continue
        mean = sum(map(sum, by_sequence)) / counts.sum()
        residuals = np.array([sum(kept) - mean * len(kept) for kept in by_sequence])
        stderr = math.sqrt(N / (N - 1) * (residuals**2).sum()) / counts.sum()
        values["copying_logit_share"][at] = (mean, stderr)
        values["copying_logit"][at] = (4 * mean - 1, 4 * stderr)
    return dict(values)
