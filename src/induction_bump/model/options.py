"""What kind of transformer is trained. Vocabulary size and context belong to the data and flow from there."""

from typing import Literal

from pydantic import Field, model_validator

from induction_bump.options import NonNegative, Positive, PositiveFloat, options

Positions = Literal["shortformer", "rotary", "learned", "none"]
Norm = Literal["layernorm", "rmsnorm", "none"]
Activation = Literal["gelu", "relu", "solu"]


@options
class Clamp:
    """A treatment of one head, in force while the model trains and while it is measured (Howe 2026)."""

    layer: NonNegative
    """Attention layer, from 0."""
    head: NonNegative
    """Head of that layer, from 0."""
    kind: Literal["previous", "second_previous", "first", "zero"]
    """`previous`, `second_previous`, `first`: a bias on the scores towards i − 1, i − 2 or position 0; `zero`: the
    head's output is held at 0."""
    strength: float = 8.0
    """The bias on the pre-softmax score, in nats; `zero` has none."""


@options
class ModelOptions:
    """A decoder-only transformer, from the zero-layer bigram model to any order of sublayers."""

    sublayers: str = Field(default="ss", pattern="^[sf]*$")
    """Order of sublayers: `s` self-attention, `f` feed-forward; "ss" is two-layer attention-only, "" a bigram model."""
    d_model: Positive = 64
    """Width of the residual stream."""
    n_heads: Positive = 4
    """Attention heads per attention sublayer."""
    d_head: Positive | None = None
    """Width of one head; null derives it as d_model / n_heads."""
    d_mlp: Positive | None = None
    """Hidden width of a feed-forward sublayer; null derives it as 4 · d_model."""
    activation: Activation = "gelu"
    """Nonlinearity of feed-forward sublayers."""
    positions: Positions = "rotary"
    """How the model knows positions; `shortformer` adds sinusoids to the inputs of W_Q and W_K only."""
    norm: Norm = "layernorm"
    """Normalisation before every sublayer and before the unembedding."""
    smeared_keys: bool = False
    """Mix each key with the one before it, one trainable scalar per head: k_j ← σ(α) k_j + (1 − σ(α)) k_{j−1}."""
    smear_init: float = 0.0
    """Initial α of smeared keys; 0 mixes the two keys equally."""
    tied: bool = False
    """Use the transposed embedding as unembedding."""
    biases: bool = False
    """Biases in attention and feed-forward projections, norms and unembedding."""
    rotary_base: PositiveFloat = 10_000.0
    """Base of the rotary frequencies."""
    clamps: tuple[Clamp, ...] = ()
    """Heads that are not left to training alone."""

    @model_validator(mode="after")
    def _consistent(self) -> "ModelOptions":
        if self.d_head is None and self.d_model % self.n_heads:
            raise ValueError(
                f"n_heads={self.n_heads} does not divide d_model={self.d_model}; choose one that does, or set d_head"
            )
        if self.positions == "rotary" and self.width_of_head % 2:
            raise ValueError(f"positions=rotary needs an even d_head, not {self.width_of_head}")
        if self.positions == "shortformer" and self.d_model % 2:
            raise ValueError(f"positions=shortformer needs an even d_model, not {self.d_model}")
        self._check_clamps()
        return self

    def _check_clamps(self) -> None:
        kinds: dict[tuple[int, int], set[str]] = {}
        for clamp in self.clamps:
            name = f"clamps: L{clamp.layer}H{clamp.head}"
            if clamp.layer >= self.n_attention or clamp.head >= self.n_heads:
                raise ValueError(
                    f"{name} does not exist; this model has {self.n_attention} attention layers of {self.n_heads} heads"
                )
            there = kinds.setdefault((clamp.layer, clamp.head), set())
            if clamp.kind in there:
                raise ValueError(f"{name} has two clamps of the kind {clamp.kind}")
            there.add(clamp.kind)
            if "zero" in there and len(there) > 1:
                raise ValueError(f"{name} is held at zero, where a bias on its scores does nothing")

    @property
    def width_of_head(self) -> int:
        """d_head, derived where it is not set."""
        return self.d_head or self.d_model // self.n_heads

    @property
    def width_of_mlp(self) -> int:
        """d_mlp, derived where it is not set."""
        return self.d_mlp or 4 * self.d_model

    @property
    def n_attention(self) -> int:
        """Number of attention sublayers, which is what measures count as layers."""
        return self.sublayers.count("s")
