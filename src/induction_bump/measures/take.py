"""The measures of a snapshot (docs/measures/definitions.md), from the plain float32 model and the run's probes."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from induction_bump.measures import causal, circuits
from induction_bump.measures import losses as loss_measures
from induction_bump.measures.ablation import Head, Kind, every_head
from induction_bump.measures.causal import Effects
from induction_bump.measures.composition import KINDS, Composition, composition
from induction_bump.measures.composition import Kind as CompositionKind
from induction_bump.measures.copying import copying_logit
from induction_bump.measures.folding import DegenerateError, fold
from induction_bump.measures.heads import Lookup
from induction_bump.measures.ngrams import Ngrams
from induction_bump.measures.options import MeasureOptions
from induction_bump.measures.paths import Path, path_order
from induction_bump.measures.probes import HeldOutProbe, Probes, RepeatsProbe
from induction_bump.measures.ranks import ALONE, Ranks
from induction_bump.measures.reading import Reading, read
from induction_bump.measures.refusals import refusals
from induction_bump.measures.registry import CHEAP
from induction_bump.measures.statistics import Estimate, clustered_mean
from induction_bump.model.transformer import Transformer

Value = tuple[float, float | None]
"""A number and its standard error, None where it has none."""

_LOSSES = frozenset(
    {
        "loss",
        "loss_by_position",
        "icl_score",
        "icl_window_score",
        "token_losses",
        "predictable_loss",
        "unpredictable_loss",
    }
)
_ATTENTION = frozenset({"previous_token", "first_token"})
_AGAINST_NGRAMS = frozenset({"unigram_gap", "bigram_gap", "bigram_kl", "predictable_gain", "unpredictable_gain"})
_ON_REPEATS = frozenset(
    {
        "copy_advantage",
        "ordered_copy_advantage",
        "prefix_matching",
        "prefix_matching_mean",
        "prefix_matching_off_by_one",
        "duplicate_token",
    }
)
_QK = frozenset({"qk_trace", "qk_eigenvalue", "qk_trace_shifted_key"})
_COMPOSITION: Mapping[str, CompositionKind] = {f"composition_{kind}": kind for kind in KINDS}
_OF_WEIGHTS = frozenset({"copying_eigenvalue", "smear", *_QK, *_COMPOSITION})
_ABLATIONS: Mapping[str, Kind] = {
    "zero_ablation": "zero",
    "mean_ablation": "mean",
    "pattern_preserving_ablation": "pattern_preserving",
}


@dataclass
class Measured:
    """The numbers of one snapshot, by table."""

    scalars: dict[str, Value] = field(default_factory=dict)
    """By name."""
    loss_by_position: Estimate | None = None
    """T."""
    token_losses: npt.NDArray[np.float32] | None = None
    """N: the loss at each example's own position."""
    examples: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """Name → N."""
    heads: dict[str, Mapping[Head, Value]] = field(default_factory=dict)
    """By measure, of the heads that have it."""
    head_pairs: Composition | None = None
    ablations: Mapping[tuple[Kind, frozenset[Head]], Effects] = field(default_factory=dict)
    """Of single heads."""
    paths: Mapping[Path, Estimate] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    """Measures of which the weights of some heads leave values undefined, with the heads and the reason."""

    def add(self, name: str, estimate: Estimate | None) -> None:
        """Keep a scalar, where there is one."""
        if estimate is not None:
            self.scalars[name] = (float(estimate.value), float(estimate.stderr))

    def add_heads(self, name: str, estimate: Estimate) -> None:
        """Keep a score of every head, given as layers × H."""
        self.heads[name] = {
            (int(layer), int(head)): (float(estimate.value[layer, head]), float(estimate.stderr[layer, head]))
            for layer, head in np.ndindex(estimate.value.shape)
        }


def take(
    model: Transformer,
    probes: Probes,
    options: MeasureOptions,
    names: Collection[str] = CHEAP,
    ngrams: Ngrams | None = None,
    ranks: Ranks = ALONE,
) -> Measured:
    """Take at least the measures in `names` that the model can have (`refusals`), and what comes along with them.

    The model is read in eval mode, in float32, and left as it was. Without `ngrams` the measures that compare with
    them are left out. Each of `ranks`, which hold the same weights, runs a share of every probe, and all get the same
    numbers.

    Raises NotFiniteError for a model whose losses are no longer finite, RankFailedError where another rank failed.
    """
    wanted = set(names) - refusals(model.options).keys()
    if ngrams is None:
        wanted -= _AGAINST_NGRAMS
    training = model.training
    model.eval()
    try:
        with ranks.failing_together():
            return _take(model, probes, options, wanted, ngrams, ranks)
    finally:
        model.train(training)


def _take(
    model: Transformer, probes: Probes, options: MeasureOptions, wanted: set[str], ngrams: Ngrams | None, ranks: Ranks
) -> Measured:
    measured, text = Measured(), probes.held_out
    if wanted & (_LOSSES | _AGAINST_NGRAMS):
        _on_text(measured, model, text, options, ngrams if wanted & _AGAINST_NGRAMS else None, ranks)
    elif wanted & (_ATTENTION | _QK):
        _attention_on_text(measured, read(model, *_of_text(model, text), losses=False, ranks=ranks), text)
    if wanted & _ON_REPEATS:
        _on_repeats(measured, model, probes.repeats, ranks)
    if wanted & _OF_WEIGHTS:
        # not split, and not done by all: it takes float64 copies of the weights, and processor time from each other
        of_weights = ranks.from_first(lambda: _of_weights(model, wanted, measured.heads.get("previous_token", {})))
        measured.heads |= of_weights.heads
        measured.head_pairs, measured.left_out = of_weights.head_pairs, of_weights.left_out
    if "copying_logit" in wanted:
        found = copying_logit(model, probes.copying.tokens, ranks)
        measured.heads |= found.heads
        measured.scalars["copying_logit_chance"] = (found.chance, None)
    kinds: list[Kind] = [kind for name, kind in _ABLATIONS.items() if name in wanted]
    if kinds:
        measured.ablations = causal.effects(model, probes, options, every_head(model), kinds, ranks)
    if "path_order" in wanted:
        n = options.causal.path_examples
        measured.paths = path_order(model, text.tokens[:n], text.documents[:n], ranks)
    return measured


def _on_text(
    measured: Measured,
    model: Transformer,
    probe: HeldOutProbe,
    options: MeasureOptions,
    ngrams: Ngrams | None,
    ranks: Ranks,
) -> None:
    reading = read(model, *_of_text(model, probe), ngrams=ngrams, ranks=ranks)
    losses, documents = reading.losses.astype(np.float64), probe.documents
    measured.add("loss", clustered_mean(losses.mean(1), documents))
    measured.loss_by_position = clustered_mean(losses, documents)
    measured.token_losses = reading.losses[np.arange(len(losses)), probe.position - 1]
    for name, per_example in (
        ("icl_score", loss_measures.per_example_icl_score(losses, options.icl)),
        ("icl_window_score", loss_measures.per_example_icl_window_score(losses, options.icl)),
    ):
        measured.examples[name] = per_example.astype(np.float32)
        measured.add(name, clustered_mean(per_example, documents))
    for name, mask in (("predictable", probe.rule.right), ("unpredictable", probe.rule.wrong)):
        measured.add(f"{name}_loss", loss_measures.masked_loss(losses, mask, documents))
        measured.add(f"{name}_share", clustered_mean(mask.mean(1), documents))
    _attention_on_text(measured, reading, probe)
    if ngrams:
        _against_ngrams(measured, reading, losses, probe, ngrams)


def _of_text(model: Transformer, probe: HeldOutProbe) -> tuple[npt.NDArray[np.int64], Lookup | None]:
    return probe.tokens, probe.lookup if model.options.n_attention else None


def _attention_on_text(measured: Measured, reading: Reading, probe: HeldOutProbe) -> None:
    for name, values in reading.scores.items():
        measured.add_heads(name, clustered_mean(values, probe.documents))


def _against_ngrams(
    measured: Measured, reading: Reading, losses: loss_measures.Losses, probe: HeldOutProbe, ngrams: Ngrams
) -> None:
    unigram, bigram = ngrams.losses(probe.tokens)
    documents = probe.documents
    measured.add("unigram_gap", loss_measures.gap(unigram, losses, documents))
    measured.add("bigram_gap", loss_measures.gap(bigram, losses, documents))
    measured.add("bigram_kl", clustered_mean(reading.bigram_kl.astype(np.float64).mean(1), documents))
    for name, mask in (("predictable", probe.rule.right), ("unpredictable", probe.rule.wrong)):
        measured.add(f"{name}_gain", loss_measures.masked_gain(bigram, losses, mask, documents))


def _on_repeats(measured: Measured, model: Transformer, probe: RepeatsProbe, ranks: Ranks) -> None:
    reading = read(model, probe.tokens, probe.lookup if model.options.n_attention else None, ranks=ranks)
    shuffled = read(model, probe.shuffled, ranks=ranks).losses
    first, second = (loss_measures.copy_losses(reading.losses.astype(np.float64), probe.blocks, c) for c in (1, 2))
    permuted = loss_measures.copy_losses(shuffled.astype(np.float64), probe.blocks, 2)
    for name, per_sequence in (
        ("first_copy_loss", first),
        ("second_copy_loss", second),
        ("shuffled_copy_loss", permuted),
        ("copy_advantage", first - second),
        ("ordered_copy_advantage", permuted - second),
    ):
        measured.add(name, clustered_mean(per_sequence))
    for name, values in reading.scores.items():
        measured.add_heads(name, clustered_mean(values))


def _of_weights(model: Transformer, wanted: set[str], previous: Mapping[Head, Value]) -> Measured:
    """What is read from the weights; `previous` holds `previous_token`, by which query-key terms are weighted."""
    measured = Measured()
    found: dict[str, dict[Head, float]] = {}
    kinds: list[CompositionKind] = [kind for name, kind in _COMPOSITION.items() if name in wanted]

    def leave_out(error: DegenerateError) -> None:
        before = measured.left_out.get(error.measure)
        measured.left_out[error.measure] = f"{before}; {error}" if before else str(error)

    if wanted & (_QK | _COMPOSITION.keys() | {"copying_eigenvalue"}):
        folded = fold(model)
        if "copying_eigenvalue" in wanted:
            found |= circuits.copying_eigenvalue(folded, leave_out)
        if wanted & _QK:
            layers, heads = range(model.options.n_attention), range(model.options.n_heads)
            weights = [[previous[layer, head][0] for head in heads] for layer in layers]
            found |= circuits.qk_terms(folded, np.array(weights), leave_out)
        if kinds:
            measured.head_pairs = composition(folded, kinds, leave_out)
    if "smear" in wanted:
        found |= circuits.smear(model)
    measured.heads |= {name: {head: (value, None) for head, value in values.items()} for name, values in found.items()}
    return measured
