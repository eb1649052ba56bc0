"""A model's weights as its heads' circuits read them: norms folded, one row a head, in float64.

Defined in docs/measures/definitions.md#heads-read-from-their-weights.

A norm reads x as s · (x C) diag(g) + b, with gain g, centring C = I − 11ᵀ/D (LayerNorm; RMSNorm has C = I) and a scale
s = 1/σ(x). Gain and centring go into the matrix that reads what the norm gives: W_Q, W_K and W_V of the sublayer,
W_U for the final norm. The centring goes into what heads write, too: no later norm reads the mean of the features, so
that it must not count in the norm of W_OV. The scale depends on the input and cannot be folded: circuits are known up
to a positive factor.

Circuits are about which token says what. Biases (of norms, projections and the unembedding) and positions (learned or
sinusoidal) do not depend on the token and are no part of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.func import functional_call

from induction_bump.measures.statistics import NotFiniteError
from induction_bump.model.attention import rotate
from induction_bump.model.clamps import held_at_zero
from induction_bump.model.transformer import Attention, FeedForward, Norm, Positions, Tap, Transformer

Head = tuple[int, int]
"""Layer, counted over attention sublayers, and head: L1H3 is (1, 3)."""
HeadValues = dict[str, dict[Head, float]]
"""Label → head → value, for the heads that it is defined for; a label without any is absent."""


class DegenerateError(ValueError):
    """Weights that leave a value undefined, 0 divided by 0, of the `measure` where it is one measure's."""

    def __init__(self, message: str, measure: str = "") -> None:
        super().__init__(message)
        self.measure = measure


Undefined = Callable[[DegenerateError], None]
"""What to do about each value that weights leave undefined, before going on without it."""


def refuse(error: DegenerateError) -> None:
    """Not to go on: raises the error."""
    raise error


def name_of(head: Head) -> str:
    """L1H3."""
    return f"L{head[0]}H{head[1]}"


@dataclass(frozen=True)
class Folded:
    """The folded weights of N heads, in order of layer and head. D d_model, K d_head, V vocabulary."""

    heads: tuple[Head, ...]
    W_Q: Float64[Tensor, "N D K"]
    W_K: Float64[Tensor, "N D K"]
    W_V: Float64[Tensor, "N D K"]
    W_O: Float64[Tensor, "N K D"]
    W_E: Float64[Tensor, "V D"]
    W_U: Float64[Tensor, "D V"]
    W_E_effective: Float64[Tensor, "V D"] | None
    """W_E plus what the first feed-forward sublayer writes on reading W_E alone; None where no head lies after it."""
    behind_mlp: tuple[bool, ...]
    """N: whether the head lies after the first feed-forward sublayer."""
    rotation: Float64[Tensor, "K K"] | None
    """Rotary models: the mean over δ = 1 … T/2 of R_δ, the rotation in q_i · k_{i−δ} = q R_δ kᵀ."""
    keep: Float64[Tensor, " N"] | None
    """Smeared models: σ(α), what each head's keys keep of their own position."""
    shape: tuple[int, int]
    """Attention layers and heads of each, those held at zero included."""
    dimensions: int
    """Of the subspace in which the D sides of W_Q, W_K, W_V and W_O lie: D − 1 where they are centred, D elsewhere."""


def fold_into(norm: Norm, reader: Float[Tensor, "*n D"]) -> Float[Tensor, "*n D"]:
    """The rows of Wᵀ become those of (C diag(g) W)ᵀ, W being the matrix that reads what `norm` gives."""
    return reader if norm.kind == "none" else norm.centred(reader * norm.gain.to(reader))


@torch.no_grad()
def fold(model: Transformer) -> Folded:
    """Fold the norms of a model, on the CPU in float64, into matrices of their own.

    Heads that a clamp holds at zero have no circuit and are left out.
    Raises NotFiniteError for weights that are no numbers, DegenerateError for a rotary model with a context of 1, which
    has no distance between positions.
    """
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise NotFiniteError(f"the model's weights {name} are not finite")
    options = model.options
    silent = {(layer, head) for layer, held in held_at_zero(options).items() for head in held}
    every = [(layer, head) for layer in range(options.n_attention) for head in range(options.n_heads)]
    rows = [n for n, head in enumerate(every) if head not in silent]
    sublayers = list(model.attention_sublayers())
    first_mlp = options.sublayers.find("f")
    behind = tuple(0 <= first_mlp < sublayers[every[n][0]].sublayer for n in rows)
    return Folded(
        heads=tuple(every[n] for n in rows),
        W_Q=_readers(model, sublayers, "W_Q")[rows],
        W_K=_readers(model, sublayers, "W_K")[rows],
        W_V=_readers(model, sublayers, "W_V")[rows],
        W_O=_writers(model, sublayers)[rows],
        W_E=_exact(model.W_E),
        W_U=fold_into(model.norm, _exact(model.unembedding.T)).T,
        W_E_effective=_effective_embedding(model) if any(behind) else None,
        behind_mlp=behind,
        rotation=_mean_rotation(model),
        keep=_kept(sublayers)[rows] if options.smeared_keys else None,
        shape=(options.n_attention, options.n_heads),
        dimensions=options.d_model - (options.norm == "layernorm"),
    )


def _exact(weight: Tensor) -> Tensor:
    return weight.detach().to("cpu", torch.float64)


def _readers(model: Transformer, sublayers: list[Attention], name: str) -> Float64[Tensor, "N D K"]:
    D, K = model.options.d_model, model.options.width_of_head
    folded = [fold_into(s.norm, _exact(getattr(s, name)).permute(1, 2, 0)).mT for s in sublayers]  # (H, D, K)
    return torch.cat([torch.empty(0, D, K, dtype=torch.float64), *folded])


def _writers(model: Transformer, sublayers: list[Attention]) -> Float64[Tensor, "N K D"]:
    D, K = model.options.d_model, model.options.width_of_head
    folded = [model.norm.centred(_exact(s.W_O)) for s in sublayers]  # (H, K, D)
    return torch.cat([torch.empty(0, K, D, dtype=torch.float64), *folded])


def _kept(sublayers: list[Attention]) -> Float64[Tensor, " N"]:
    alphas = [_exact(s.alpha) for s in sublayers if s.alpha is not None]
    return torch.sigmoid(torch.cat([torch.empty(0, dtype=torch.float64), *alphas]))


_HIDDEN_AT_ONCE = 1 << 24
"""Feed-forward activations that are held at once."""


def _effective_embedding(model: Transformer) -> Float64[Tensor, "V D"]:
    mlp = next(s for s in model.sublayers if isinstance(s, FeedForward))
    weights = {name: _exact(parameter) for name, parameter in mlp.named_parameters()}
    silent = Tap(frozenset(), lambda site, tensor: None)
    parts = _exact(model.W_E).split(max(1, _HIDDEN_AT_ONCE // model.options.width_of_mlp))
    return torch.cat([x + functional_call(mlp, weights, (x[None], Positions(), silent))[0] for x in parts])


def _mean_rotation(model: Transformer) -> Float64[Tensor, "K K"] | None:
    if model.options.positions != "rotary" or model.position_tables is None:
        return None
    if model.context < 2:
        raise DegenerateError("a context of 1 has no distance that keys could be rotated by")
    # a rotation is linear in its tables, so that the mean rotation is that of the mean tables
    tables = _exact(model.position_tables[:, 1 : model.context // 2 + 1]).mean(1, keepdim=True)
    unit = torch.eye(model.options.width_of_head, dtype=torch.float64)
    return rotate(unit[:, None, None], tables)[:, 0, 0]
