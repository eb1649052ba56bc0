"""Copying and matching read from weights (docs/measures/definitions.md#heads-read-from-their-weights).

Every trace and eigenvalue comes from a K × K matrix: the V × V ones that define them are never formed. Both are known
up to the positive scale of the norms, which eigenvalue ratios do not depend on and traces carry.

N heads, D d_model, K d_head, V vocabulary; P = I − 11ᵀ/V centres over the vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float64
from torch import Tensor

from induction_bump.measures.folding import DegenerateError, Folded, Head, HeadValues, Undefined, name_of, refuse
from induction_bump.model.transformer import Transformer

_ROUNDING = 1e-12
"""Eigenvalues whose absolute sum is less than this share of the product of the factors' norms are rounding."""


def copying_eigenvalue(folded: Folded, undefined: Undefined = refuse) -> HeadValues:
    """Σλ / Σ|λ| over the eigenvalues of W_E W_OV W_U, −1 … 1: 1 is pure copying, about 0 random weights (E21).

    By λ(AB) = λ(BA) they are those of W_O (W_U W_E) W_V, K × K. Labels:

    - `copying_eigenvalue`: W_U P in place of W_U, so that a constant added to every logit does not count. Centring W_E
      on the other side as well changes nothing, since λ(XP) = λ(PX) and PP = P;
    - `copying_eigenvalue_raw`: E21's form, without P;
    - `copying_eigenvalue_effective`: centred, with the effective embedding, for heads that lie after a feed-forward
      sublayer.

    Where every eigenvalue of a head is 0, `undefined` is told, and raises DegenerateError if nothing else is given.
    """
    W_U = folded.W_U - folded.W_U.mean(1, keepdim=True)
    centred = W_U @ folded.W_E  # (D, D)
    of_means = len(folded.W_E) * torch.outer(folded.W_U.mean(1), folded.W_E.mean(0))
    everyone = list(range(len(folded.heads)))
    forms = {"": (centred, folded.W_E, everyone), "_raw": (centred + of_means, folded.W_E, everyone)}
    if (effective := folded.W_E_effective) is not None:
        behind = [n for n in everyone if folded.behind_mlp[n]]
        forms["_effective"] = (W_U @ effective, effective, behind)
    values: HeadValues = {}
    for suffix, (through, embedding, rows) in forms.items():
        W_O, W_V = folded.W_O[rows], folded.W_V[rows]
        size = _norms(W_O) * _norms(W_V) * _norms(folded.W_U) * _norms(embedding)
        heads = [folded.heads[n] for n in rows]
        for head, ratio in zip(heads, _eigenvalue_ratios(W_O @ through @ W_V, size), strict=True):
            if ratio is None:
                undefined(_without_eigenvalues("copying_eigenvalue", suffix, name_of(head)))
            else:
                values.setdefault(f"copying_eigenvalue{suffix}", {})[head] = ratio
    return values


def _norms(matrices: Float64[Tensor, "*n A B"]) -> Float64[Tensor, " *n"]:
    return torch.linalg.matrix_norm(matrices)


def _eigenvalue_ratios(circuits: Float64[Tensor, "N K K"], sizes: Float64[Tensor, " N"]) -> list[float | None]:
    """Σλ / Σ|λ| of each, None where all are 0; `sizes` are what `_ROUNDING` is a share of."""
    sums = circuits.diagonal(dim1=-2, dim2=-1).sum(-1)
    spreads = torch.linalg.eigvals(circuits).abs().sum(-1)
    smallest = _ROUNDING * sizes
    found = zip(sums.tolist(), spreads.tolist(), smallest.tolist(), strict=True)
    return [sum_ / spread if spread > least else None for sum_, spread, least in found]


def _without_eigenvalues(measure: str, suffix: str, where: str) -> DegenerateError:
    return DegenerateError(f"{measure}{suffix} of {where}: all eigenvalues are 0", measure)


@dataclass(frozen=True)
class _Form:
    """One way to read the query-key circuit."""

    suffix: str
    W_Q: Float64[Tensor, "N D K"]
    """Rotated or not."""
    meeting: Float64[Tensor, "M D D"]
    """E_kᵀ P E_q (without P in the raw form). M is 2 where embeddings are effective, for content that is brought from
    before, and from after the feed-forward sublayer; else 1."""

    @property
    def effective(self) -> bool:
        """Whether it reads the effective embedding."""
        return len(self.meeting) == 2


def qk_terms(folded: Folded, previous_token: npt.NDArray[np.floating], undefined: Undefined = refuse) -> HeadValues:
    """Do the head's queries look for keys after which, by way of an earlier head, the same token came (O22, E21)?

    The term of head h through an earlier head e is T(h, e) = W_E W_QK^h (W_OV^e)ᵀ W_Eᵀ, V × V: the score that a query
    of token t gives to a key to which e brought token t′. By λ(AB) = λ(BA) its trace and eigenvalues are those of
    (W_V^eᵀ W_Eᵀ W_E W_Q^h)(W_K^hᵀ W_O^eᵀ), K × K.

    previous_token: layers × H, the measure of that name: the weights of the earlier heads. Labels:

    - `qk_trace`: Σ_e previous_token(e) · Tr T(h, e) over the heads of all earlier layers;
    - `qk_eigenvalue`: Σλ / Σ|λ| of T(h, e) for the e with the highest `previous_token`;
    - `qk_trace_shifted_key`: smeared models, every head: (1 − σ(α_h)) · Tr(W_E W_QK^h W_Eᵀ), what the head matches in
      the token before the key without any earlier head.

    Each is centred over the vocabulary on the key side, which for traces and eigenvalues is the same as on both. `_raw`
    beside it is not centred. `_effective` reads the effective embedding wherever a feed-forward sublayer lies before
    the head that reads: h on the query side, e on the key side (h for a shifted key); it is there where one lies before
    h. Rotary: W_Q R̄ stands in place of W_Q, R̄ the mean of R_δ over the distances δ = 1 … T/2; `_offset0` has the
    identity in its place. Smeared: terms of an earlier head are multiplied by σ(α_h).

    Where every eigenvalue of a term is 0, `undefined` is told, and raises DegenerateError if nothing else is given.
    Raises ValueError for `previous_token` of another shape or not finite.
    """
    given = np.asarray(previous_token, np.float64)
    if given.shape != folded.shape or not np.isfinite(given).all():
        raise ValueError(f"previous_token must be {folded.shape[0]} × {folded.shape[1]} finite numbers")
    weights = torch.tensor([given[head] for head in folded.heads], dtype=torch.float64)
    first_of_layer = {layer: n for n, (layer, _) in reversed(list(enumerate(folded.heads)))}
    behind = torch.tensor(folded.behind_mlp, dtype=torch.long)
    values: HeadValues = {}
    for form in _forms(folded):
        read = form.meeting[:, None] @ form.W_Q  # (M, N, D, K)
        source = behind if form.effective else torch.zeros_like(behind)
        for n, head in enumerate(folded.heads):
            if form.effective and not folded.behind_mlp[n]:
                continue
            kept = 1.0 if folded.keep is None else float(folded.keep[n])
            if folded.keep is not None:
                direct = float((read[source[n], n] * folded.W_K[n]).sum())
                values.setdefault(f"qk_trace_shifted_key{form.suffix}", {})[head] = (1 - kept) * direct
            before = first_of_layer[head[0]]  # heads 0 … before − 1 lie in earlier layers
            if not before:
                continue
            bring = folded.W_V[:before].mT @ read[source[:before], n]  # (E, K, K)
            take = folded.W_O[:before] @ folded.W_K[n]  # (E, K, K)
            traces = (bring * take).sum((-2, -1))
            values.setdefault(f"qk_trace{form.suffix}", {})[head] = kept * float(weights[:before] @ traces)
            best = int(weights[:before].argmax())
            ratio = _eigenvalue_ratio_of_term(folded, n, best, bring[best] @ take[best].mT)
            if ratio is None:
                pair = f"{name_of(head)} through {name_of(folded.heads[best])}"
                undefined(_without_eigenvalues("qk_eigenvalue", form.suffix, pair))
            else:
                values.setdefault(f"qk_eigenvalue{form.suffix}", {})[head] = ratio
    return values


def _forms(folded: Folded) -> Iterator[_Form]:
    W_E = folded.W_E - folded.W_E.mean(0)
    centred = W_E.T @ W_E
    of_means = len(W_E) * torch.outer(folded.W_E.mean(0), folded.W_E.mean(0))
    raw = centred + of_means
    W_Q = folded.W_Q if folded.rotation is None else folded.W_Q @ folded.rotation
    yield _Form("", W_Q, centred[None])
    yield _Form("_raw", W_Q, raw[None])
    if folded.rotation is not None:
        yield _Form("_offset0", folded.W_Q, centred[None])
    if (effective := folded.W_E_effective) is not None:
        effective = effective - effective.mean(0)
        yield _Form("_effective", W_Q, torch.stack([W_E.T @ effective, effective.T @ effective]))


def _eigenvalue_ratio_of_term(folded: Folded, head: int, earlier: int, circuit: Float64[Tensor, "K K"]) -> float | None:
    embedding = folded.W_E if folded.W_E_effective is None else folded.W_E_effective
    size = _norms(embedding) ** 2
    for factor in (folded.W_Q[head], folded.W_K[head], folded.W_V[earlier], folded.W_O[earlier]):
        size = size * _norms(factor)
    return _eigenvalue_ratios(circuit[None], size[None])[0]


@torch.no_grad()
def smear(model: Transformer) -> HeadValues:
    """`smear`: σ(α_h), what the keys of each head keep of their own position; {} where keys are not smeared (O22)."""
    values: dict[Head, float] = {}
    for sublayer in model.attention_sublayers():
        if sublayer.alpha is not None:
            kept = torch.sigmoid(sublayer.alpha.double()).tolist()
            values |= {(sublayer.layer, head): share for head, share in enumerate(kept)}
    return {"smear": values} if values else {}
