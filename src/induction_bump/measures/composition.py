"""How much of what one head writes a later head reads (E21).

Defined in docs/measures/definitions.md#composition_q-composition_k-composition_v.
"""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float64
from torch import Tensor

from induction_bump.measures.folding import DegenerateError, Folded, Head, Undefined, name_of, refuse

Kind = Literal["q", "k", "v"]
KINDS: tuple[Kind, ...] = ("q", "k", "v")

_ROUNDING = 1e-7
"""A product is 0 where its norm is less than this share of its factors' (squared norms are exact to 1e-16)."""


@dataclass(frozen=True)
class Composition:
    """One row a pair of heads and kind: the columns of the table `head_pairs`."""

    layer_in: npt.NDArray[np.int16]
    head_in: npt.NDArray[np.int16]
    layer_out: npt.NDArray[np.int16]
    head_out: npt.NDArray[np.int16]
    kind: npt.NDArray[np.str_]
    value: npt.NDArray[np.float64]
    """Ratio of norms minus `baseline`."""
    baseline: npt.NDArray[np.float64]


def composition(folded: Folded, kinds: Collection[Kind] = KINDS, undefined: Undefined = refuse) -> Composition:
    """Composition of every head h1 with every head h2 of a later layer, minus what random factors give (E21).

    With Frobenius norms, row convention:

    - q: ‖W_OV^h1 W_QK^h2‖ / (‖W_OV^h1‖ ‖W_QK^h2‖);
    - k: ‖W_OV^h1 (W_QK^h2)ᵀ‖ / (‖W_OV^h1‖ ‖W_QK^h2‖);
    - v: ‖W_OV^h1 W_OV^h2‖ / (‖W_OV^h1‖ ‖W_OV^h2‖).

    W_QK is W_Q W_Kᵀ without rotation. Random factors lie where the folded ones do: a LayerNorm centres what heads read,
    and what they write is centred too, so that all factors of the three products lack one dimension. Norms come from
    K × K matrices: ‖A M Bᵀ‖² = Σ (AᵀA M) ∘ (M BᵀB).
    No rows where no two heads lie in different layers. Where a ratio needs a W_OV or W_QK that is 0, `undefined` is
    told, and raises DegenerateError if nothing else is given.
    """
    if not folded.heads or folded.heads[0][0] == folded.heads[-1][0]:
        return _table([], [], [], 0.0)
    in_ = _Inner.of(folded)
    layers = sorted({layer for layer, _ in folded.heads})
    rows = {layer: [n for n, head in enumerate(folded.heads) if head[0] == layer] for layer in layers}
    pairs: list[tuple[Head, Head]] = []
    found: list[str] = []
    ratios: list[Tensor] = []
    for kind in KINDS:
        if kind not in kinds:
            continue
        writers, readers = in_.acting(kind, undefined)
        for late in layers[1:]:
            for early in layers[: layers.index(late)]:
                ones = [n for n in rows[early] if n in writers]
                others = [n for n in rows[late] if n in readers]
                ratios.append(in_.ratios(kind, ones, others).flatten())
                pairs += [(folded.heads[a], folded.heads[b]) for a in ones for b in others]
                found += [kind] * ratios[-1].numel()
    if not pairs:
        return _table([], [], [], 0.0)
    baseline = composition_baseline(folded.dimensions, folded.W_Q.shape[-1])
    return _table(pairs, found, torch.cat(ratios).tolist(), baseline)


def _table(pairs: list[tuple[Head, Head]], kinds: list[str], ratios: list[float], baseline: float) -> Composition:
    places = np.array([(*early, *late) for early, late in pairs], np.int16).reshape(-1, 4)
    return Composition(
        *places.T,
        kind=np.array(kinds, "U1"),
        value=np.array(ratios, np.float64) - baseline,
        baseline=np.full(len(ratios), baseline),
    )


@dataclass(frozen=True)
class _Inner:
    """Inner products of every head's factors, N × K × K, and the norms that follow from them."""

    folded: Folded
    Q: Float64[Tensor, "N K K"]
    K: Float64[Tensor, "N K K"]
    V: Float64[Tensor, "N K K"]
    O: Float64[Tensor, "N K K"]  # noqa: E741 - W_O's
    W_OV: Float64[Tensor, " N"]
    W_QK: Float64[Tensor, " N"]

    @classmethod
    def of(cls, folded: Folded) -> "_Inner":
        Q, K, V = (W.mT @ W for W in (folded.W_Q, folded.W_K, folded.W_V))
        written = folded.W_O @ folded.W_O.mT
        return cls(folded, Q, K, V, written, _norms_of_products(V, written), _norms_of_products(Q, K))

    def acting(self, kind: Kind, undefined: Undefined) -> tuple[set[int], set[int]]:
        """Rows of heads that write something to a later layer, and of those that read something from an earlier one."""
        heads, name = self.folded.heads, "W_OV" if kind == "v" else "W_QK"
        writers = {n for n, (layer, _) in enumerate(heads) if layer < heads[-1][0]}
        readers = {n for n, (layer, _) in enumerate(heads) if layer > heads[0][0]}
        zero = {of: set(torch.nonzero(norms == 0).flatten().tolist()) for of, norms in self._norms().items()}
        for n, of in sorted({(n, "W_OV") for n in writers & zero["W_OV"]} | {(n, name) for n in readers & zero[name]}):
            undefined(DegenerateError(f"composition: {of} of {name_of(heads[n])} is 0", f"composition_{kind}"))
        return writers - zero["W_OV"], readers - zero[name]

    def ratios(self, kind: Kind, early: list[int], late: list[int]) -> Float64[Tensor, "E L"]:
        """Composition of heads in the rows `early` with those in the rows `late`."""
        f = self.folded
        reader, rest, name = {
            "q": (f.W_Q, self.K, "W_QK"),
            "k": (f.W_K, self.Q, "W_QK"),
            "v": (f.W_V, self.O, "W_OV"),
        }[kind]
        writer_norms, reader_norms = self.W_OV[early], self._norms()[name][late]
        M = torch.einsum("ekd,ldm->elkm", f.W_O[early], reader[late])
        squared = ((self.V[early, None] @ M) * (M @ rest[late])).sum((-2, -1))
        return squared.clamp(min=0).sqrt() / (writer_norms[:, None] * reader_norms)

    def _norms(self) -> dict[str, Float64[Tensor, " N"]]:
        return {"W_OV": self.W_OV, "W_QK": self.W_QK}


def _norms_of_products(left: Float64[Tensor, "N K K"], right: Float64[Tensor, "N K K"]) -> Float64[Tensor, " N"]:
    """‖A Bᵀ‖ from AᵀA and BᵀB, 0 where it is rounding."""
    norms = (left * right).sum((-2, -1)).clamp(min=0).sqrt()
    factors = (left.diagonal(dim1=-2, dim2=-1).sum(-1) * right.diagonal(dim1=-2, dim2=-1).sum(-1)).sqrt()
    return norms.where(norms > _ROUNDING * factors, 0.0)


_PRECISION = 0.002
"""Standard error of the baseline, as a share of it."""
_DRAWS_AT_ONCE = 32


@lru_cache(maxsize=64)
def composition_baseline(dimensions: int, d_head: int) -> float:
    """The mean of ‖AB‖ / (‖A‖ ‖B‖) for A = A₁A₂ and B = B₁B₂ with independent Gaussian factors of a head's shapes.

    Args: dimensions, of the space n that the factors lie in (`Folded.dimensions`).

    The root mean square is exactly 1/√n, so that for u = √n · ratio, E u = 1 − E(u − 1)²/2: of the mean, only that
    small correction is estimated, from draws with a fixed seed, to a standard error of at most 0.2 %.
    """
    generator = torch.Generator().manual_seed(0)
    corrections = torch.empty(0, dtype=torch.float64)
    for ratios in _random_ratios(dimensions, d_head, generator):
        corrections = torch.cat([corrections, (math.sqrt(dimensions) * ratios - 1).square() / 2])
        mean = 1 - float(corrections.mean())
        if float(corrections.std()) <= _PRECISION * mean * math.sqrt(len(corrections)):
            return mean / math.sqrt(dimensions)
    raise AssertionError("draws do not end")


def _random_ratios(dimensions: int, d_head: int, generator: torch.Generator) -> Iterator[Float64[Tensor, " N"]]:
    while True:
        shape = (4, _DRAWS_AT_ONCE, dimensions, d_head)
        A1, A2, B1, B2 = torch.randn(shape, dtype=torch.float64, generator=generator)  # A = A1 A2ᵀ, B = B1 B2ᵀ
        inner_A, inner_B = A1.mT @ A1, B2.mT @ B2
        M = A2.mT @ B1
        squared = ((inner_A @ M) * (M @ inner_B)).sum((-2, -1))
        norms = (inner_A * (A2.mT @ A2)).sum((-2, -1)) * (inner_B * (B1.mT @ B1)).sum((-2, -1))
        yield (squared / norms).sqrt()
