"""Every measure: its version, the table its rows are in, what it costs, and where its definition starts.

A changed definition is a new version, and records carry them all. A test compares the source of what `defined_by`
names, and of all the functions, classes and constants that this goes on to, with what it was when the version was
given, so that neither changes without the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Cost = Literal["cheap", "expensive", "afterwards"]


@dataclass(frozen=True)
class Measure:
    """What is known of a measure without taking it."""

    table: str
    """Where its rows are; `FURTHER_TABLES` hold parts of some."""
    defined_by: tuple[str, ...]
    """`module.function` or `module.Class`, below this package: what its numbers start from. Those of `take`, where all
    measures meet, lead to nothing by themselves; for others, what they name in their code need not be repeated."""
    version: int = 1
    cost: Cost = "cheap"
    """`cheap` ones are taken at every snapshot, `expensive` ones on the schedule `snapshots.expensive`, and those of
    `afterwards` need a later snapshot to be decided on: `bump measure` takes them."""

    @property
    def probes(self) -> frozenset[str]:
        """Which of `PROBES` it reads."""
        return frozenset(name for name in PROBES if f"probes.{name}_probe" in self.defined_by)


PROBES = ("held_out", "repeats", "copying")
"""What a run is measured on, as its hashes name them."""

_TAKEN = ("take.take", "take._take", "take.Measured")
_READ = (*_TAKEN, "reading.read", "statistics.clustered_mean")
_ON_TEXT = ("take._of_text", "probes.held_out_probe", *_READ)
_LOSSES = ("take._on_text", *_ON_TEXT)
_HEADS = ("take._on_text", "take._attention_on_text", "heads.text_lookup", "heads.head_scores", *_ON_TEXT)
_ON_REPEATS = ("take._on_repeats", "probes.repeats_probe", *_READ)
_REPEATS = ("heads.repeat_lookup", "heads.head_scores", *_ON_REPEATS)
_COPIES = ("losses.copy_losses", *_ON_REPEATS)
_RULE = ("losses.induction_rule", "losses.masked_loss", *_LOSSES)
_NGRAMS = ("take._against_ngrams", "ngrams.Ngrams", "ngrams.build")
_FOLDED = ("take._of_weights", "folding.fold", *_TAKEN)
_QK = ("circuits.qk_terms", *_HEADS, *_FOLDED)
_COMPOSITION = ("composition.composition", "take._COMPOSITION", *_FOLDED)
_COPYING = ("copying.copying_logit", "probes.copying_probe", *_TAKEN)
_EFFECTS = ("causal.effects", "probes.held_out_probe", "probes.repeats_probe")
_ABLATION = ("ablation.every_head", "take._ABLATIONS", *_EFFECTS, *_TAKEN)
_PATHS = ("paths.path_order", "probes.held_out_probe", *_TAKEN)

MEASURES: Mapping[str, Measure] = {
    "loss": Measure("scalars", _LOSSES),
    "loss_by_position": Measure("positions", _LOSSES),
    "icl_score": Measure("scalars", ("losses.per_example_icl_score", *_LOSSES)),
    "icl_window_score": Measure("scalars", ("losses.per_example_icl_window_score", *_LOSSES)),
    "token_losses": Measure("tokens", _LOSSES),
    "predictable_loss": Measure("scalars", _RULE),
    "unpredictable_loss": Measure("scalars", _RULE),
    "predictable_gain": Measure("scalars", ("losses.masked_gain", *_RULE, *_NGRAMS)),
    "unpredictable_gain": Measure("scalars", ("losses.masked_gain", *_RULE, *_NGRAMS)),
    "unigram_gap": Measure("scalars", ("losses.gap", *_LOSSES, *_NGRAMS)),
    "bigram_gap": Measure("scalars", ("losses.gap", *_LOSSES, *_NGRAMS)),
    "bigram_kl": Measure("scalars", (*_LOSSES, *_NGRAMS)),
    "copy_advantage": Measure("scalars", _COPIES),
    "ordered_copy_advantage": Measure("scalars", _COPIES, version=2),
    "prefix_matching": Measure("heads", _REPEATS),
    "prefix_matching_mean": Measure("heads", _REPEATS),
    "prefix_matching_off_by_one": Measure("heads", _REPEATS),
    "duplicate_token": Measure("heads", _REPEATS),
    "previous_token": Measure("heads", _HEADS),
    "first_token": Measure("heads", _HEADS),
    "null99": Measure("scalars", ("null.null99", "probes.held_out_probe", "probes.repeats_probe")),
    "copying_eigenvalue": Measure("heads", ("circuits.copying_eigenvalue", *_FOLDED)),
    "copying_logit": Measure("heads", _COPYING),
    "qk_trace": Measure("heads", _QK, version=2),
    "qk_eigenvalue": Measure("heads", _QK, version=2),
    "qk_trace_shifted_key": Measure("heads", _QK),
    "smear": Measure("heads", ("circuits.smear", *_FOLDED)),
    "composition_q": Measure("head_pairs", _COMPOSITION, version=2, cost="expensive"),
    "composition_k": Measure("head_pairs", _COMPOSITION, version=2, cost="expensive"),
    "composition_v": Measure("head_pairs", _COMPOSITION, version=2, cost="expensive"),
    "zero_ablation": Measure("ablations", _ABLATION, version=2, cost="expensive"),
    "mean_ablation": Measure("ablations", _ABLATION, version=3, cost="expensive"),
    "pattern_preserving_ablation": Measure("ablations", _ABLATION, version=2, cost="expensive"),
    "path_order": Measure("paths", _PATHS, version=2, cost="expensive"),
    "group_ablation": Measure(
        "ablations", ("groups.choose", "groups.matched_sets", *_EFFECTS), version=2, cost="afterwards"
    ),
}
"""By name."""

VERSIONS: Mapping[str, int] = {name: measure.version for name, measure in MEASURES.items()}
"""Name → version."""

CHEAP = frozenset(name for name, measure in MEASURES.items() if measure.cost == "cheap")
"""Taken at every snapshot."""

FURTHER_TABLES: Mapping[str, str] = {
    "icl_score": "examples",
    "icl_window_score": "examples",
    "copying_logit": "scalars",
    **dict.fromkeys(("zero_ablation", "mean_ablation", "pattern_preserving_ablation"), "ablated_tokens"),
}
"""By measure whose rows are in two tables: the second."""

_PARTS = {
    "predictable_share": "predictable_loss",
    "unpredictable_share": "unpredictable_loss",
    "first_copy_loss": "copy_advantage",
    "second_copy_loss": "copy_advantage",
    "shuffled_copy_loss": "ordered_copy_advantage",
}
_FORMS = {
    "copying_eigenvalue": ("raw", "effective"),
    "copying_logit": ("share", "left_out", "chance"),
    "qk_trace": ("raw", "effective", "offset0"),
    "qk_eigenvalue": ("raw", "effective", "offset0"),
    "qk_trace_shifted_key": ("raw", "effective", "offset0"),
}
_OF_LABEL = _PARTS | {f"{name}_{form}": name for name, forms in _FORMS.items() for form in forms}
_OF_KIND = {
    "head_pairs": "composition_{}",
    "ablations": "{}_ablation",
    "ablated_tokens": "{}_ablation",
}
_WHOLE_TABLES = {"positions": "loss_by_position", "tokens": "token_losses", "paths": "path_order"}

LABEL_COLUMNS: Mapping[str, str] = {
    "scalars": "name",
    "examples": "name",
    "heads": "measure",
    **dict.fromkeys(_OF_KIND, "kind"),
}
"""By table whose rows belong to several measures: the column that says to which."""
MEASURED_TABLES = (*LABEL_COLUMNS, *_WHOLE_TABLES)
"""Tables that measures fill."""


def tables_with(measure: str) -> tuple[str, ...]:
    """The tables that rows of a measure are in."""
    further = FURTHER_TABLES.get(measure)
    return (MEASURES[measure].table, *([further] if further else []))


def measure_of(table: str, label: str = "", *, group: bool = False) -> str:
    """The measure that a row belongs to, by what stands in its table's label column.

    `predictable_share` is part of `predictable_loss`; a row of `ablations` without a head is one of a `group`.
    """
    if table in _WHOLE_TABLES:
        return _WHOLE_TABLES[table]
    if table in _OF_KIND:
        return "group_ablation" if group else _OF_KIND[table].format(label)
    return "null99" if label.startswith("null99/") else _OF_LABEL.get(label, label)
