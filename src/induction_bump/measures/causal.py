"""What ablations change, in nats: the rows of `ablations` and `ablated_tokens`.

Defined in docs/measures/definitions.md#interventions.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from induction_bump.measures.ablation import Head, Kind, ablate, mean_z
from induction_bump.measures.losses import copy_losses, per_example_icl_score, per_example_icl_window_score
from induction_bump.measures.options import MeasureOptions
from induction_bump.measures.probes import Probes
from induction_bump.measures.ranks import ALONE, Ranks
from induction_bump.measures.statistics import Estimate, clustered_mean
from induction_bump.model.transformer import Transformer

Array = npt.NDArray[np.floating]
Key = tuple[Kind, frozenset[Head]]
"""What was ablated, and how."""


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
    ranks: Ranks = ALONE,
) -> dict[Key, Effects]:
    """Ablate each group of heads in each way. Differences are paired by example, and clustered by document.

    Means for the kind `mean` are taken over the sequences that the quantity is measured on, at each position over
    those that reach it. Each of `ranks` runs a share of the sequences.
    """
    held_out, repeats = probes.held_out, probes.repeats
    n = min(options.causal.examples, len(held_out.tokens))
    documents, position = held_out.documents[:n], held_out.position[:n]

    def on_text(losses: Array, here: slice) -> dict[str, Array]:
        exact = losses.astype(np.float64)
        return {
            "loss": exact.mean(1),
            "icl_score": per_example_icl_score(exact, options.icl),
            "icl_window_score": per_example_icl_window_score(exact, options.icl),
            _TOKEN: losses[np.arange(len(losses)), position[here] - 1],
        }

    def on_repeats(losses: Array, here: slice) -> dict[str, Array]:
        return {_COPY: copy_losses(losses.astype(np.float64), repeats.blocks[here], 2)}

    def per_example(
        tokens: npt.NDArray[np.int64],
        summary: Callable[[Array, slice], dict[str, Array]],
        lengths: npt.NDArray[np.int64] | None = None,
    ) -> dict[Key | None, dict[str, Array]]:
        """By what was ablated, None for nothing: name → N."""
        means = mean_z(model, tokens, lengths, ranks) if "mean" in kinds else None

        def of_share(here: slice) -> dict[tuple[Key | None, str], Array]:
            found = ablate(model, tokens[here], groups, kinds, means)
            every: dict[Key | None, Array] = {None: found.intact, **found.changed}
            return {(key, name): v for key, losses in every.items() for name, v in summary(losses, here).items()}

        by_key: dict[Key | None, dict[str, Array]] = {}
        for (key, name), values in ranks.whole(len(tokens), of_share).items():
            by_key.setdefault(key, {})[name] = values
        return by_key

    text = per_example(held_out.tokens[:n], on_text)
    true = per_example(repeats.tokens, on_repeats, repeats.lengths)
    shuffled = per_example(repeats.shuffled, on_repeats, repeats.lengths)
    intact, copying = text.pop(None), shuffled[None][_COPY] - true[None][_COPY]
    found: dict[Key, Effects] = {}
    for key, changed in text.items():
        assert key is not None
        token_losses = changed.pop(_TOKEN).astype(np.float32)
        quantities = {name: clustered_mean(values - intact[name], documents) for name, values in changed.items()}
        change = shuffled[key][_COPY] - true[key][_COPY] - copying
        quantities["ordered_copy_advantage"] = clustered_mean(change)
        found[key] = Effects(quantities, token_losses)
    return found


_TOKEN, _COPY = "token", "second copy"
