"""What ablations change, in nats: the rows of `ablations` and `ablated_tokens` (measures.md §4)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from induction_bump.measures.ablation import Head, Kind, ablate
from induction_bump.measures.losses import copy_losses, per_example_icl_score, per_example_icl_window_score
from induction_bump.measures.options import MeasureOptions
from induction_bump.measures.probes import Probes
from induction_bump.measures.statistics import Estimate, clustered_mean
from induction_bump.model.transformer import Transformer

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Effects:
    """Of one kind of ablation of one group of heads: ablated minus intact."""

    quantities: Mapping[str, Estimate]
    """`loss`, `icl_score`, `icl_window_score` on held-out windows, `ordered_copy_advantage` on repeats."""
    token_losses: npt.NDArray[np.float32]
    """N: the loss itself, at each held-out example's own position, with the heads ablated."""


def effects(
    model: Transformer,
    probes: Probes,
    options: MeasureOptions,
    groups: Collection[frozenset[Head]],
    kinds: Collection[Kind],
) -> dict[tuple[Kind, frozenset[Head]], Effects]:
    """Ablate each group of heads in each way. Differences are paired by example, and clustered by document.

    Means for the kind `mean` are taken over the sequences that the quantity is measured on.
    """
    held_out, repeats = probes.held_out, probes.repeats
    n = min(options.causal.examples, len(held_out.tokens))
    documents = held_out.documents[:n]
    text = ablate(model, held_out.tokens[:n], groups, kinds)
    true = ablate(model, repeats.tokens, groups, kinds)
    shuffled = ablate(model, repeats.shuffled, groups, kinds)

    def on_text(losses: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.floating]]:
        exact = losses.astype(np.float64)
        return {
            "loss": exact.mean(1),
            "icl_score": per_example_icl_score(exact, options.icl),
            "icl_window_score": per_example_icl_window_score(exact, options.icl),
        }

    def advantage(of_true: npt.NDArray[np.float32], of_shuffled: npt.NDArray[np.float32]) -> Array:
        second, permuted = (copy_losses(x.astype(np.float64), repeats.blocks, 2) for x in (of_true, of_shuffled))
        return permuted - second

    intact = on_text(text.intact)
    copying = advantage(true.intact, shuffled.intact)
    found: dict[tuple[Kind, frozenset[Head]], Effects] = {}
    for key, losses in text.changed.items():
        quantities = {
            name: clustered_mean(values - intact[name], documents) for name, values in on_text(losses).items()
        }
        change = advantage(true.changed[key], shuffled.changed[key]) - copying
        quantities["ordered_copy_advantage"] = clustered_mean(change)
        found[key] = Effects(quantities, losses[np.arange(n), held_out.position[:n] - 1])
    return found
