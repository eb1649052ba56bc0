"""A model in the names and shapes of TransformerLens, which this module does not need.

What is written is what both its `HookedTransformer` (versions 2 and 3) and its `TransformerBridge` (version 4) read;
docs/export.md shows how. Blocks are attention, or attention and then a feed-forward sublayer: they can hold the models
`s`, `ss`, … and `sf`, `sfsf`, …. What a model lacks and TransformerLens always has (biases, positions added to the
residual stream) is written as zeros, and a tied unembedding as a matrix of its own.
"""

import re
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from induction_bump.model.options import ModelOptions
from induction_bump.model.transformer import EPSILON, Attention, FeedForward, Norm, Transformer


class ExportError(ValueError):
    """What was asked for cannot be exported; one line that names the key, the value and what is allowed."""


_NORMS = {"layernorm": "LN", "rmsnorm": "RMS", "none": None}
# its "standard" positions are learned ones; with zeros in their place a model has none
_POSITIONS = {"shortformer": "shortformer", "rotary": "rotary", "learned": "standard", "none": "standard"}


def config_of(options: ModelOptions, vocab_size: int, context: int) -> dict[str, Any]:
    """Fields of `HookedTransformerConfig` and `TransformerBridgeConfig`, for their `from_dict`; numbers, text and null.

    Raises ExportError for a variant that TransformerLens does not have.
    """
    _check(options)
    feed_forward = "f" in options.sublayers
    config: dict[str, Any] = {
        "n_layers": options.n_attention,
        "d_model": options.d_model,
        "n_heads": options.n_heads,
        "d_head": options.width_of_head,
        "n_ctx": context,
        "d_vocab": vocab_size,
        "attn_only": not feed_forward,
        "d_mlp": options.width_of_mlp if feed_forward else None,
        "act_fn": options.activation if feed_forward else None,
        "normalization_type": _NORMS[options.norm],
        "eps": EPSILON,
        "positional_embedding_type": _POSITIONS[options.positions],
    }
    if options.positions == "rotary":
        base = options.rotary_base
        config |= {
            "rotary_dim": options.width_of_head,
            "rotary_base": int(base) if base.is_integer() else base,  # declared as int there
            "rotary_adjacent_pairs": True,
        }
    return config


def _check(options: ModelOptions) -> None:
    if not re.fullmatch("s+|(sf)+", options.sublayers):
        raise ExportError(
            f"model.sublayers='{options.sublayers}': TransformerLens has blocks of attention, or of attention and then "
            "feed-forward, so that only s, ss, … and sf, sfsf, … can be exported"
        )
    if options.smeared_keys:
        raise ExportError("model.smeared_keys=true: TransformerLens has no smeared keys; only false can be exported")
    if options.clamps:
        clamped = ", ".join(f"L{clamp.layer}H{clamp.head} {clamp.kind}" for clamp in options.clamps)
        raise ExportError(
            f"model.clamps={clamped}: TransformerLens has no clamps; only models without them can be exported"
        )


@torch.no_grad()
def state_dict_of(model: Transformer) -> dict[str, Tensor]:
    """Every parameter of the model that `config_of` describes, in float32 on the CPU.

    With D d_model, H heads, K d_head, M d_mlp, V vocabulary, T context, l layer:

    | there | shape | from |
    |---|---|---|
    | `embed.W_E`, `unembed.W_U`, `unembed.b_U` | V D, D V, V | as here |
    | `pos_embed.W_pos` | T D | learned positions, sinusoids or zeros; not there in a rotary model |
    | `blocks.l.attn.W_Q`, `W_K`, `W_V` | H D K | D H K here; W_Q and W_K of a rotary model `in_adjacent_pairs` |
    | `blocks.l.attn.W_O` | H K D | as here |
    | `blocks.l.attn.b_Q`, `b_K`, `b_V`, `b_O` | H K, D | as here |
    | `blocks.l.mlp.W_in`, `b_in`, `W_out`, `b_out` | D M, M, M D, D | as here |
    | `blocks.l.ln1`, `blocks.l.ln2`, `ln_final`: `.w`, `.b` | D | gain, bias (`.b` of a layer norm only) |

    The causal masks and rotary tables that a `HookedTransformer` keeps among its buffers are left out: it makes them
    itself, and a `TransformerBridge` has none. Raises ExportError as `config_of` does.
    """
    _check(model.options)
    tensors = {"embed.W_E": model.W_E, "unembed.W_U": model.unembedding}
    tensors["unembed.b_U"] = model.W_E.new_zeros(model.vocab_size) if model.b_U is None else model.b_U
    if model.options.positions != "rotary":
        tensors["pos_embed.W_pos"] = _added_positions(model)
    blocks = model.options.n_attention
    width = len(model.sublayers) // blocks  # sublayers of a block
    for index, sublayer in enumerate(model.sublayers):
        block = f"blocks.{index // width}"
        if isinstance(sublayer, Attention):
            tensors |= _under(f"{block}.attn", _attention(sublayer, rotary=model.options.positions == "rotary"))
            tensors |= _under(f"{block}.ln1", _norm(sublayer.norm))
        else:
            assert isinstance(sublayer, FeedForward)
            tensors |= _under(f"{block}.mlp", _feed_forward(sublayer))
            tensors |= _under(f"{block}.ln2", _norm(sublayer.norm))
    tensors |= _under("ln_final", _norm(model.norm))
    # copies: a tied unembedding must not share memory with the embedding
    return {name: t.detach().to("cpu", torch.float32, copy=True).contiguous() for name, t in tensors.items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _added_positions(model: Transformer) -> Tensor:
    """T × D: what is added to the residual stream, or to the inputs of W_Q and W_K in a shortformer."""
    if model.options.positions == "learned":
        return model.W_pos
    if model.options.positions == "shortformer":
        assert model.position_tables is not None
        return model.position_tables
    return model.W_E.new_zeros(model.context, model.options.d_model)


def _attention(sublayer: Attention, rotary: bool) -> dict[str, Tensor]:
    H, K, D = sublayer.W_O.shape
    zeros = sublayer.W_O.new_zeros
    tensors: dict[str, Tensor] = {"W_O": sublayer.W_O}
    for name in ("W_Q", "W_K", "W_V"):
        tensors[name] = getattr(sublayer, name).transpose(0, 1)
    for name, shape in (("b_Q", (H, K)), ("b_K", (H, K)), ("b_V", (H, K)), ("b_O", (D,))):
        tensors[name] = getattr(sublayer, name) if sublayer.biases else zeros(shape)
    if rotary:
        tensors |= {name: in_adjacent_pairs(tensors[name]) for name in ("W_Q", "W_K", "b_Q", "b_K")}
    return tensors


def in_adjacent_pairs(of_head: Float[Tensor, "*n K"]) -> Float[Tensor, "*n K"]:
    """Features (i, i + K/2), which are rotated together here, at (2i, 2i + 1).

    `TransformerBridge` rotates no others, whatever `rotary_adjacent_pairs` says. Scores are sums over features, so that
    queries and keys may have them in any one order.
    """
    return of_head.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)


def _feed_forward(sublayer: FeedForward) -> dict[str, Tensor]:
    D, M = sublayer.W_in.shape
    zeros = sublayer.W_in.new_zeros
    return {
        "W_in": sublayer.W_in,
        "b_in": sublayer.b_in if sublayer.biases else zeros(M),
        "W_out": sublayer.W_out,
        "b_out": sublayer.b_out if sublayer.biases else zeros(D),
    }


def _norm(norm: Norm) -> dict[str, Tensor]:
    if norm.kind == "none":
        return {}
    if norm.kind == "rmsnorm":
        return {"w": norm.gain}
    return {"w": norm.gain, "b": torch.zeros_like(norm.gain) if norm.bias is None else norm.bias}
