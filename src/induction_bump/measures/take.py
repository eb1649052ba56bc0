"""All measures of a snapshot (measures.md §1 and §2), from the plain float32 model and the run's probes."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from induction_bump.measures import losses as loss_measures
from induction_bump.measures.options import MeasureOptions
from induction_bump.measures.probes import HeldOutProbe, Probes, RepeatsProbe
from induction_bump.measures.reading import Reading, read
from induction_bump.measures.statistics import Estimate, clustered_mean
from induction_bump.model.transformer import Transformer


@dataclass
class Measured:
    """The numbers of one snapshot, by table."""

    scalars: dict[str, tuple[float, float | None]] = field(default_factory=dict)
    """Name → value and standard error."""
    loss_by_position: Estimate | None = None
    """T."""
    token_losses: npt.NDArray[np.float32] | None = None
    """N: the loss at each example's own position."""
    examples: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """Name → N."""
    heads: dict[str, Estimate] = field(default_factory=dict)
    """Measure → layers × H."""

    def add(self, name: str, estimate: Estimate | None) -> None:
        """Keep a scalar, where there is one."""
        if estimate is not None:
            self.scalars[name] = (float(estimate.value), float(estimate.stderr))


def take(model: Transformer, probes: Probes, options: MeasureOptions) -> Measured:
    """Take every measure. The model is read in eval mode, in float32, and left as it was.

    Raises NotFiniteError for a model whose losses are no longer finite.
    """
    training = model.training
    model.eval()
    try:
        measured = Measured()
        _on_held_out(measured, read(model, probes.held_out.tokens, _lookup(model, probes.held_out)), probes, options)
        _on_repeats(
            measured,
            read(model, probes.repeats.tokens, _lookup(model, probes.repeats)),
            read(model, probes.repeats.shuffled).losses,
            probes.repeats,
        )
    finally:
        model.train(training)
    return measured


def _lookup(model: Transformer, probe: HeldOutProbe | RepeatsProbe):
    return probe.lookup if model.options.n_attention else None


def _on_held_out(measured: Measured, reading: Reading, probes: Probes, options: MeasureOptions) -> None:
    probe, losses = probes.held_out, reading.losses.astype(np.float64)
    documents = probe.documents
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
    measured.heads |= {name: clustered_mean(values, documents) for name, values in reading.scores.items()}


def _on_repeats(measured: Measured, reading: Reading, shuffled: npt.NDArray[np.float32], probe: RepeatsProbe) -> None:
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
    measured.heads |= {name: clustered_mean(values) for name, values in reading.scores.items()}
