"""What is measured at a snapshot, and on which probes."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from induction_bump.options import FloatPair, Positive, Seed, options


@options
class IclOptions:
    """Which positions (1-based, k names the predicted token) the in-context-learning scores compare."""

    early: Positive = 50
    """k_early: where little context is there to learn from."""
    late: Positive = 500
    """k_late: where much is."""
    window: Positive = 50
    """Width w of the windows [k_early, k_early + w − 1] and [k_late − w + 1, k_late]."""

    @model_validator(mode="after")
    def _disjoint(self) -> "IclOptions":
        if self.early + self.window - 1 >= self.late - self.window + 1:
            raise ValueError(
                f"early window {self.early}…{self.early + self.window - 1} and late window "
                f"{self.late - self.window + 1}…{self.late} overlap; move them apart or make window smaller"
            )
        return self


@options
class HeldOutOptions:
    """The probe of held-out windows."""

    examples: Annotated[int, Field(ge=2)] = 1024
    """Number of windows."""
    seed: Seed = 1001
    """Seed of the probe, never that of training."""


@options
class RepeatsProbeOptions:
    """The probe of repeated random tokens."""

    sequences: Annotated[int, Field(ge=2)] = 128
    """Number of sequences N."""
    repeats: Annotated[int, Field(ge=2)] = 2
    """Copies of the block in a sequence; O22's layout is block 25, repeats 4."""
    block: Annotated[int, Field(ge=8)] = 50
    """Longest block; shortened where context or the number of eligible tokens asks for it."""
    quantiles: FloatPair = (0.1, 0.9)
    """Blocks are drawn from tokens whose frequency in the training corpus lies between these quantiles."""
    seed: Seed = 2002
    """Seed of the probe."""

    @model_validator(mode="after")
    def _ordered(self) -> "RepeatsProbeOptions":
        low, high = self.quantiles
        if not 0 <= low < high <= 1:
            raise ValueError(f"quantiles={list(self.quantiles)} must satisfy 0 ≤ low < high ≤ 1")
        return self


@options
class NullOptions:
    """The null distribution of head scores: fresh initialisations of the same model."""

    initialisations: Annotated[int, Field(ge=10)] = 100
    """How many; their 99th percentile is null99."""
    examples: Annotated[int, Field(ge=2)] = 32
    """Leading examples of each probe that the null is computed on."""
    seed: Seed = 3003
    """Seed of the first initialisation."""


@options
class CopyingProbeOptions:
    """The probe of `copying_logit`: BOS, then distinct random tokens, none repeated (O22)."""

    sequences: Annotated[int, Field(ge=2)] = 64
    """Number of sequences."""
    tokens: Annotated[int, Field(ge=4)] = 25
    """Tokens after BOS; fewer where the context or the number of eligible tokens is smaller."""
    seed: Seed = 4004
    """Seed of the probe."""


@options
class NgramOptions:
    """The unigram and interpolated bigram models of the training corpus that losses are compared with."""

    tokens: Positive = 20_000_000
    """Count budget: training tokens that are counted, at most one epoch of the corpus."""
    held_out: Positive = 256
    """Held-out windows on which the interpolation weights are fitted."""
    seed: Seed = 5005
    """Seed of those windows, and of the order in which training windows are counted."""


@options
class CausalOptions:
    """Ablations and path order."""

    examples: Annotated[int, Field(ge=2)] = 512
    """Leading windows of the held-out probe that heads are ablated on, at most all of them."""
    path_examples: Annotated[int, Field(ge=2)] = 128
    """Leading windows of the held-out probe for path order, whose cost grows with the square of the number of heads."""
    group_seed: Seed = 6006
    """Seed of the repeat probe on which the induction heads of a group are chosen."""
    draws: Positive = 20
    """Most matched sets of other heads that a group is compared with."""


Expensive = Literal[
    "composition_q",
    "composition_k",
    "composition_v",
    "zero_ablation",
    "mean_ablation",
    "pattern_preserving_ablation",
    "path_order",
]


@options
class MeasureOptions:
    """Measures and probes of one run."""

    icl: IclOptions = Field(default_factory=IclOptions)
    held_out: HeldOutOptions = Field(default_factory=HeldOutOptions)
    repeats: RepeatsProbeOptions = Field(default_factory=RepeatsProbeOptions)
    null: NullOptions = Field(default_factory=NullOptions)
    copying: CopyingProbeOptions = Field(default_factory=CopyingProbeOptions)
    ngrams: NgramOptions = Field(default_factory=NgramOptions)
    causal: CausalOptions = Field(default_factory=CausalOptions)
    expensive: tuple[Expensive, ...] = (
        "composition_q",
        "composition_k",
        "composition_v",
        "zero_ablation",
        "pattern_preserving_ablation",
        "path_order",
    )
    """Measures that are taken on the schedule `snapshots.expensive` only."""
