"""A decoder-only transformer for interpretability.

Notable features:
- any order of attention (`s`) and feed-forward (`f`) sublayers, including none: the bigram model;
- shortformer positions (sinusoids on the inputs of W_Q and W_K only), rotary, learned, or none;
- pre-sublayer LayerNorm, RMSNorm or no norm; a norm before the unembedding;
- smeared keys, one scalar per head, applied before rotation;
- d_head free of d_model / n_heads; tied or untied unembedding; with or without biases;
- weights kept per head, W_Q[d, h, k], W_O[h, k, d], so that a head's circuits are slices;
- clamps: chosen heads with a bias on their scores, or held at zero, in training and in measurement alike;
- every activation is read and replaced through one mechanism, the `tap` argument of `forward`.

Shapes: B batch, T positions, D d_model, H heads, K d_head, M d_mlp, V vocabulary.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from induction_bump.model.attention import (
    ReadPattern,
    attend,
    mix,
    rotary_tables,
    rotate,
    sinusoids,
    smear,
)
from induction_bump.model.clamps import held_at_zero, score_biases
from induction_bump.model.init import initialise
from induction_bump.model.options import ModelOptions

Residual = Float[Tensor, "B T D"]


@dataclass(frozen=True)
class Site:
    """A place where an activation can be read or replaced.

    | name | shape | what |
    |---|---|---|
    | `residual` | B T D | before sublayer `sublayer`; before the final norm at sublayer = number of sublayers |
    | `scale` | B T 1 | what that norm multiplies by, 1/σ of its input; nowhere with norm `none` |
    | `q`, `k` | B T H K | as attention uses them: smeared and rotated |
    | `v` | B T H K | values |
    | `scores` | B H T T | pre-softmax |
    | `pattern` | B H T T | attention pattern |
    | `z` | B T H K | mixed values, before W_O: replacing a slice of it is ablating that head |
    | `hidden` | B T M | feed-forward activations after the nonlinearity |
    | `written` | B T D | what the sublayer adds to the residual stream |
    """

    name: str
    sublayer: int
    """Index into the string of sublayers."""
    layer: int
    """Index among attention sublayers, −1 elsewhere: the layer in a head's name L1H3."""


@dataclass(frozen=True)
class Tap:
    """Reads or replaces activations during one forward pass; nothing stays on the modules.

    `at` is called with (site, tensor) at every site whose name is in `names`, in the order of the computation. What it
    returns takes the tensor's place; None leaves it. Asking for `scores` or `pattern` selects the explicit kernel.
    """

    names: frozenset[str]
    at: Callable[[Site, Tensor], Tensor | None]
    given: Callable[[Site], Tensor | None] = lambda site: None
    """Asked for the `pattern` of each attention layer: where it returns one, queries, keys and scores are not computed
    and nothing is read of them. What is recorded once is thus used again at the cost of the values alone."""

    def __call__(self, site: Site, tensor: Tensor) -> Tensor:
        """The tensor to go on with at `site`."""
        if site.name not in self.names:
            return tensor
        replaced = self.at(site, tensor)
        return tensor if replaced is None else replaced


_SILENT = Tap(frozenset(), lambda site, tensor: None)


@dataclass
class Positions:
    """What a context's positions contribute: tables that are computed once, and no parameters."""

    rotary: Float[Tensor, "2 T K"] | None = None
    added_to_qk: Float[Tensor, "T D"] | None = None
    score_bias: dict[int, Float[Tensor, "H T T"]] = field(default_factory=dict)
    """By attention layer: a bias on the pre-softmax scores."""


EPSILON = 1e-5
"""Added to the variance by every norm."""


class Norm(nn.Module):
    """LayerNorm or RMSNorm with a gain, and with a bias where the model has biases; `none` passes through."""

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        self.kind = options.norm
        if self.kind != "none":
            self.gain = nn.Parameter(torch.empty(options.d_model))
        self.bias = nn.Parameter(torch.empty(options.d_model)) if options.biases and self.kind == "layernorm" else None

    def forward(self, x: Residual, tap: Tap, sublayer: int, layer: int = -1) -> Residual:
        """Normalise the last axis; `sublayer` and `layer` say where, for whoever reads or replaces the scale."""
        if self.kind == "none":
            return x
        if "scale" in tap.names:
            x = self.centred(x)
            scale = (x.square().mean(-1, keepdim=True) + EPSILON).rsqrt()
            normal = x * tap(Site("scale", sublayer, layer), scale) * self.gain
            return normal if self.bias is None else normal + self.bias
        if self.kind == "layernorm":
            return F.layer_norm(x, x.shape[-1:], self.gain, self.bias, eps=EPSILON)
        return F.rms_norm(x, x.shape[-1:], self.gain, eps=EPSILON)

    def centred(self, x: Tensor) -> Tensor:
        """What a LayerNorm does to its input before it scales it: take the mean of the last axis away."""
        return x - x.mean(-1, keepdim=True) if self.kind == "layernorm" else x


class Attention(nn.Module):
    """An attention sublayer, its norm included."""

    def __init__(self, options: ModelOptions, sublayer: int, layer: int) -> None:
        super().__init__()
        D, H, K = options.d_model, options.n_heads, options.width_of_head
        self.sublayer, self.layer = sublayer, layer
        self.norm = Norm(options)
        self.W_Q = nn.Parameter(torch.empty(D, H, K))
        self.W_K = nn.Parameter(torch.empty(D, H, K))
        self.W_V = nn.Parameter(torch.empty(D, H, K))
        self.W_O = nn.Parameter(torch.empty(H, K, D))
        if options.biases:
            self.b_Q = nn.Parameter(torch.empty(H, K))
            self.b_K = nn.Parameter(torch.empty(H, K))
            self.b_V = nn.Parameter(torch.empty(H, K))
            self.b_O = nn.Parameter(torch.empty(D))
        self.alpha = nn.Parameter(torch.empty(H)) if options.smeared_keys else None
        self.biases = options.biases

    def forward(self, x: Residual, positions: Positions, tap: Tap) -> Residual:
        """What the sublayer writes: B T D → B T D."""
        read = self.norm(x, tap, self.sublayer, self.layer)
        pattern = tap.given(self._site("pattern"))
        mixed = self._attend(read, positions, tap) if pattern is None else mix(pattern, self._values(read, tap))
        return self.write(tap(self._site("z"), mixed))

    def write(self, z: Float[Tensor, "B T H K"]) -> Residual:
        """What heads write that mixed the values `z`: B T H K → B T D."""
        written = z.flatten(2) @ self.W_O.flatten(0, 1)  # (B, T, H·K) → (B, T, D)
        return written + self.b_O if self.biases else written

    def _attend(self, read: Residual, positions: Positions, tap: Tap) -> Float[Tensor, "B T H K"]:
        read_qk = (
            read if positions.added_to_qk is None else read + positions.added_to_qk[: read.shape[1]].to(read.dtype)
        )
        q, k, v = self._project(read_qk, read)  # (B, T, H, K) each
        if self.alpha is not None:
            k = smear(k, self.alpha)
        if positions.rotary is not None:
            q, k = rotate(q, positions.rotary), rotate(k, positions.rotary)
        q, k, v = tap(self._site("q"), q), tap(self._site("k"), k), tap(self._site("v"), v)
        bias = positions.score_bias.get(self.layer)
        return attend(q, k, v, bias=bias, read_pattern=self._pattern_reader(tap))

    def _values(self, read: Residual, tap: Tap) -> Float[Tensor, "B T H K"]:
        v = (read @ self.W_V.flatten(1)).unflatten(-1, self.W_V.shape[1:])
        return tap(self._site("v"), v + self.b_V if self.biases else v)

    def _project(self, read_qk: Residual, read_v: Residual) -> tuple[Tensor, Tensor, Tensor]:
        H, K = self.W_Q.shape[1:]
        shape = (*read_v.shape[:2], H, K)
        if read_qk is read_v:
            # one wide product is quicker than three narrow ones
            weights = torch.cat([self.W_Q.flatten(1), self.W_K.flatten(1), self.W_V.flatten(1)], dim=1)
            q, k, v = (part.view(shape) for part in (read_v @ weights).split(H * K, dim=-1))
        else:
            weights = torch.cat([self.W_Q.flatten(1), self.W_K.flatten(1)], dim=1)
            q, k = (part.view(shape) for part in (read_qk @ weights).split(H * K, dim=-1))
            v = (read_v @ self.W_V.flatten(1)).view(shape)
        if self.biases:
            q, k, v = q + self.b_Q, k + self.b_K, v + self.b_V
        return q, k, v

    def _site(self, name: str) -> Site:
        return Site(name, self.sublayer, self.layer)

    def _pattern_reader(self, tap: Tap) -> ReadPattern | None:
        if not tap.names & {"scores", "pattern"}:
            return None
        return lambda name, tensor: tap(self._site(name), tensor)


class FeedForward(nn.Module):
    """A feed-forward sublayer, its norm included."""

    def __init__(self, options: ModelOptions, sublayer: int) -> None:
        super().__init__()
        D, M = options.d_model, options.width_of_mlp
        self.sublayer = sublayer
        self.activation = options.activation
        self.norm = Norm(options)
        self.W_in = nn.Parameter(torch.empty(D, M))
        self.W_out = nn.Parameter(torch.empty(M, D))
        if options.biases:
            self.b_in = nn.Parameter(torch.empty(M))
            self.b_out = nn.Parameter(torch.empty(D))
        self.biases = options.biases

    def forward(self, x: Residual, positions: Positions, tap: Tap) -> Residual:
        """What the sublayer writes: B T D → B T D."""
        hidden = self.norm(x, tap, self.sublayer) @ self.W_in
        if self.biases:
            hidden = hidden + self.b_in
        hidden = tap(Site("hidden", self.sublayer, -1), activate(hidden, self.activation))
        written = hidden @ self.W_out
        return written + self.b_out if self.biases else written


def activate(x: Float[Tensor, "*B M"], name: str) -> Float[Tensor, "*B M"]:
    """gelu, relu, or solu: x · softmax(x) over the hidden units (Elhage et al. 2022), without a norm after it."""
    if name == "gelu":
        return F.gelu(x)
    if name == "relu":
        return F.relu(x)
    assert name == "solu"
    return x * x.softmax(-1)


class Transformer(nn.Module):
    """Logits of the next token from a context of tokens."""

    position_tables: Tensor | None

    def __init__(self, options: ModelOptions, vocab_size: int, context: int, seed: int = 0) -> None:
        """Weights are those of `initialise` with `seed`; `context` is the longest input."""
        super().__init__()
        self.options, self.vocab_size, self.context = options, vocab_size, context
        D = options.d_model
        self.W_E = nn.Parameter(torch.empty(vocab_size, D))
        if options.positions == "learned":
            self.W_pos = nn.Parameter(torch.empty(context, D))
        layers = iter(range(len(options.sublayers)))
        self.sublayers = nn.ModuleList(
            Attention(options, index, next(layers)) if kind == "s" else FeedForward(options, index)
            for index, kind in enumerate(options.sublayers)
        )
        self.norm = Norm(options)
        if not options.tied:
            self.W_U = nn.Parameter(torch.empty(D, vocab_size))
        self.b_U = nn.Parameter(torch.empty(vocab_size)) if options.biases else None
        tables = None
        if options.positions == "rotary":
            tables = rotary_tables(context, options.width_of_head, options.rotary_base)
        elif options.positions == "shortformer":
            tables = sinusoids(context, D)
        self.register_buffer("position_tables", tables, persistent=False)
        for layer, bias in score_biases(options, context).items():
            self.register_buffer(f"score_bias_{layer}", bias, persistent=False)
        self._held_at_zero = held_at_zero(options)
        initialise(dict(self.named_parameters()), options, seed)

    def forward(self, tokens: Int[Tensor, "B T"], tap: Tap = _SILENT) -> Float[Tensor, "B T V"]:
        """Logits for the token after each position. Raises ValueError for more positions than the context has."""
        return self.unembed(self.run(self.embed(tokens), tap), tap)

    def embed(self, tokens: Int[Tensor, "B T"]) -> Residual:
        """The residual stream before the first sublayer."""
        if tokens.shape[1] > self.context:
            raise ValueError(f"{tokens.shape[1]} positions are more than the model's context of {self.context}")
        # F.embedding's gradient is a scatter-add; indexing would fall back to a slower one
        x = F.embedding(tokens, self.W_E)
        return x + self.W_pos[: tokens.shape[1]] if self.options.positions == "learned" else x

    def run(self, x: Residual, tap: Tap = _SILENT, start: int = 0, stop: int | None = None) -> Residual:
        """The residual stream after sublayers start … stop − 1, from what it was before `start`.

        Starting late is how an intervention on one layer pays only for what lies after it.
        """
        positions, tap = self._positions(), self._holding(tap)
        end = len(self.sublayers) if stop is None else stop
        for index in range(start, end):
            sublayer = self.sublayers[index]
            layer = getattr(sublayer, "layer", -1)
            x = tap(Site("residual", index, layer), x)
            x = x + tap(Site("written", index, layer), sublayer(x, positions, tap))
        return tap(Site("residual", end, -1), x) if end == len(self.sublayers) else x

    def unembed(self, x: Residual, tap: Tap = _SILENT) -> Float[Tensor, "B T V"]:
        """Logits from the residual stream after the last sublayer."""
        return self.logits(self.norm(x, tap, len(self.sublayers)))

    def logits(self, normed: Residual) -> Float[Tensor, "B T V"]:
        """Logits from what the final norm gives."""
        logits = normed @ self.unembedding
        return logits if self.b_U is None else logits + self.b_U

    @property
    def unembedding(self) -> Float[Tensor, "D V"]:
        """W_U, which is W_E transposed in a tied model."""
        return self.W_E.T if self.options.tied else self.W_U

    def attention_sublayers(self) -> Iterator[Attention]:
        """The attention sublayers, in order of their layer."""
        return (s for s in self.sublayers if isinstance(s, Attention))

    def score_bias(self, layer: int) -> Float[Tensor, "H T T"] | None:
        """What clamps add to the pre-softmax scores of an attention layer, −∞ where j is later than i; None without."""
        return getattr(self, f"score_bias_{layer}", None)

    def _positions(self) -> Positions:
        kind, tables = self.options.positions, self.position_tables
        biases = {layer: self.score_bias(layer) for layer in range(self.options.n_attention)}
        return Positions(
            rotary=tables if kind == "rotary" else None,
            added_to_qk=tables if kind == "shortformer" else None,
            score_bias={layer: bias for layer, bias in biases.items() if bias is not None},
        )

    def _holding(self, tap: Tap) -> Tap:
        """`tap`, after the heads that clamps hold at zero were set to it."""
        if not self._held_at_zero:
            return tap

        def at(site: Site, tensor: Tensor) -> Tensor:
            if site.name == "z" and site.layer in self._held_at_zero:
                free = tensor.new_ones(tensor.shape[2], 1)
                free[list(self._held_at_zero[site.layer])] = 0
                tensor = tensor * free
            return tap(site, tensor)

        return Tap(tap.names | {"z"}, at, tap.given)


def next_token_losses(logits: Float[Tensor, "B T V"], targets: Int[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """loss[b, k − 1] = −ln p(t_k | t_0 … t_{k−1}) in nats, in float32 whatever the logits are."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none").view(targets.shape)
