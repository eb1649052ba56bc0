"""What a variant of the model cannot have, and why. Free of torch.

Listed in docs/measures/definitions.md#versions-cost-and-measuring-afterwards.
"""

from collections.abc import Mapping

from induction_bump.model.options import ModelOptions

OF_ONE_HEAD = ("copying_eigenvalue", "copying_logit")
OF_SMEARED_KEYS = ("smear", "qk_trace_shifted_key")
OF_ATTENTION = (
    "zero_ablation",
    "mean_ablation",
    "pattern_preserving_ablation",
    "group_ablation",
    "previous_token",
    "first_token",
    "prefix_matching",
    "prefix_matching_mean",
    "prefix_matching_off_by_one",
    "duplicate_token",
    "null99",
)
SINGLE_PATHS = "path_order/single"
"""The part of `path_order` that is about single paths."""
OF_TWO_HEADS = ("composition_q", "composition_k", "composition_v", "qk_trace", "qk_eigenvalue")


def refusals(options: ModelOptions) -> dict[str, str]:
    """Measures, and `SINGLE_PATHS`, that are not applicable to a model: name → reason, one clause.

    A one-layer model with smeared keys has no `qk_trace`, but `qk_trace_shifted_key`, which needs no earlier head.
    """
    refused: dict[str, str] = {} if options.n_attention else dict.fromkeys(OF_ATTENTION, "the model has no attention")
    reason = _without_heads(options)
    if reason:
        refused |= dict.fromkeys((*OF_ONE_HEAD, *OF_TWO_HEADS, *OF_SMEARED_KEYS), reason)
    elif reason := _without_pairs(options):
        refused |= dict.fromkeys(OF_TWO_HEADS, reason)
    clamped = {(clamp.layer, clamp.head) for clamp in options.clamps}
    if clamped and len(clamped) == options.n_attention * options.n_heads:
        refused["null99"] = "every head is clamped"
    if "f" in options.sublayers:
        refused[SINGLE_PATHS] = "a feed-forward sublayer is no sum over what it reads"
    if not options.smeared_keys:
        refused = dict.fromkeys(OF_SMEARED_KEYS, "keys are not smeared") | refused
    return refused


def noted(known: Mapping[str, str], further: Mapping[str, str]) -> dict[str, str]:
    """What is known not to be there, and further reasons, each once: name → reasons, separated by semicolons."""
    both = {
        name: [*known.get(name, "").split("; "), *further.get(name, "").split("; ")] for name in {**known, **further}
    }
    return {name: "; ".join(filter(None, dict.fromkeys(reasons))) for name, reasons in both.items()}


def _without_heads(options: ModelOptions) -> str | None:
    if not options.n_attention:
        return "the model has no attention"
    return None if _layers_of_acting_heads(options) else "every head is held at zero"


def _without_pairs(options: ModelOptions) -> str | None:
    if options.n_attention == 1:
        return "one attention layer: there is no earlier head"
    if len(_layers_of_acting_heads(options)) == 1:
        return "all heads of the other attention layers are held at zero: there is no earlier head"
    return None


def _layers_of_acting_heads(options: ModelOptions) -> set[int]:
    silent = {(clamp.layer, clamp.head) for clamp in options.clamps if clamp.kind == "zero"}
    layers = range(options.n_attention)
    return {layer for layer in layers if any((layer, head) not in silent for head in range(options.n_heads))}
