"""The table of all heads with every measure there is of them, at one snapshot."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from induction_bump.report.contents import Array, RunContents
from induction_bump.report.curves import (
    LABELS,
    Figure,
    chance,
    in_order,
    is_signed,
    label_of,
    measure_command,
    moments,
    no_heads,
    spread,
)
from induction_bump.report.numbers import known, significant

VARIANTS = ("_raw", "_effective", "_offset0", "_share", "_left_out")
"""Endings of other forms of a head measure."""

_BUDGET = 100_000
"""Most numbers in the table; where snapshots × columns × heads are more, snapshots are left out evenly."""
_CONTROLS = ("prefix_matching_mean", "prefix_matching_off_by_one", "duplicate_token")

_KINDS = {
    "zero": ("zero", "the head's output set to 0"),
    "pattern_preserving": ("patterns kept", "the head's output set to 0, the patterns of later heads kept"),
    "mean": ("mean", "the head's output set to its mean over examples"),
}
_QUANTITIES = {
    "loss": ("Δ loss", "held-out loss", "nats per token"),
    "ordered_copy_advantage": ("Δ ordered copy advantage", "the ordered copy advantage", "nats per token"),
    "icl_window_score": ("Δ ICL window score", "the ICL window score", "nats"),
    "icl_score": ("Δ ICL score", "the ICL score at single positions", "nats"),
}
_SHOWN = {
    ("zero", "loss"),
    ("pattern_preserving", "loss"),
    ("zero", "ordered_copy_advantage"),
    ("pattern_preserving", "ordered_copy_advantage"),
    ("pattern_preserving", "icl_window_score"),
}
_ABOUT = {
    "prefix_matching": "Attention to what followed the token's earlier occurrence, on repeated random tokens",
    "previous_token": "Attention to the token just before, on held-out text",
    "first_token": "Attention to the window's first token, on held-out text: where a head rests",
    "copying_eigenvalue": "Σλ / Σ|λ| of W_E W_OV W_U: 1 is pure copying, about 0 random weights",
    "copying_logit": "4s − 1, s the share of the head's raise of the logits that falls on the token attended to",
    "qk_eigenvalue": "Σλ / Σ|λ| of the match between a query and what the strongest previous-token head brings",
    "qk_trace": "Trace of that match, summed over earlier heads weighted by their previous-token score",
    "qk_trace_shifted_key": "Trace of the match with the smeared-in part of the key, without an earlier head",
    "smear": "Share of a key that is the token's own; the rest is the key before it",
}


@dataclass(frozen=True)
class Column:
    """A column: values and standard errors [E, heads] over the snapshots of the table."""

    key: str
    label: str
    unit: str
    about: str
    signed: bool
    optional: bool
    values: Array
    stderr: Array | None = None
    middle: float = 0.0
    """What is not shaded."""
    most: float | None = None
    """How far from `middle` the shade is full; None: as far as any value is."""
    texts: list[list[str]] | None = None
    """[E][heads]: what stands before the value."""


def head_table(run: RunContents) -> Figure:
    """A row a head, a column a measure; the script sorts it and chooses the snapshot."""
    figure: Figure = {
        "id": "head_table",
        "section": "Heads",
        "kind": "table",
        "title": "All heads, all measures",
        "caption": "One row a head; choose a heading to sort by it. Δ is the value with the head ablated minus the "
        "intact value: a head that copies has a negative Δ of the ordered copy advantage, and a positive one of loss "
        "and ICL score. Pale: within two standard errors of 0; standard errors appear on the numbers.",
    }
    if not run.heads:
        return figure | {"empty": no_heads(run)}
    extra = [found.moments.steps for found in (run.ablations, run.pairs) if found is not None]
    whole = np.isin(run.steps, np.concatenate(extra)) if extra else np.zeros(len(run.steps), bool)
    numbers = len(run.head_names) * (len(run.heads) + 25)
    kept = _kept(whole, max(2, _BUDGET // numbers))
    columns = [column for column in _columns(run, kept) if known(column.values)]
    return moments(figure, run.steps, run.tokens, kept) | {
        "whole": np.flatnonzero(whole[kept]).tolist() if 0 < whole[kept].sum() < len(kept) else [],
        "heads": run.head_names,
        "columns": [_packed(column) for column in columns],
        "notes": _notes(run, columns),
    }


def _kept(whole: Array, most: int) -> Array:
    """Places of the snapshots that are shown: where they are too many, first those where everything is measured."""
    first = np.flatnonzero(whole)
    first = first[spread(len(first), most - 1)] if len(first) else first
    others = np.flatnonzero(~whole)
    return np.union1d(first, others[spread(len(others), most - len(first))] if len(others) else others).astype(int)


def _columns(run: RunContents, kept: Array) -> list[Column]:
    scores = [_score(run, name, kept) for name in in_order(list(run.heads))]
    plain = [column for column in scores if not column.optional]
    rest = [column for column in scores if column.optional]
    return [*plain, *_effects(run, kept), *_partner(run, kept), *rest]


def _score(run: RunContents, name: str, kept: Array) -> Column:
    flat = run.heads[name][kept].reshape(len(kept), -1)
    errors = run.head_errors[name][kept].reshape(len(kept), -1)
    optional = name.endswith(VARIANTS) or name in _CONTROLS or name not in _ABOUT
    return Column(
        key=name,
        label=label_of(name),
        unit="",
        about=_ABOUT.get(name, LABELS.get(name, name)),
        signed=is_signed(name),
        optional=optional,
        values=flat,
        stderr=errors if known(errors) else None,
        middle=chance(run, name),
        most=None if name.startswith(("copying_logit", "qk_trace")) else 1.0,
    )


def _effects(run: RunContents, kept: Array) -> list[Column]:
    if run.ablations is None:
        return []
    there, at = _places(run.steps[kept], run.ablations.moments.steps)
    columns: list[Column] = []
    ways = [(kind, quantity) for quantity in _QUANTITIES for kind in _KINDS]
    for kind, quantity in sorted(ways, key=lambda way: way not in _SHOWN):
        found = run.ablations.heads.get((kind, quantity))
        if found is None:
            continue
        filled = np.full((2, len(kept), len(run.head_names)), np.nan)
        filled[0, there] = found.values[at].reshape(len(at), -1)
        filled[1, there] = found.stderr[at].reshape(len(at), -1)
        label, what, unit = _QUANTITIES[quantity]
        short, how = _KINDS[kind]
        about = f"Change of {what} with {how}"
        shown = (kind, quantity) in _SHOWN
        columns.append(
            Column(f"{quantity}.{kind}", f"{label}, {short}", unit, about, True, not shown, filled[0], filled[1])
        )
    return columns


def _partner(run: RunContents, kept: Array) -> list[Column]:
    """Each head's strongest composition, whether it writes or reads."""
    if run.pairs is None or not run.pairs.values:
        return []
    there, at = _places(run.steps[kept], run.pairs.moments.steps)
    kinds = list(run.pairs.values)
    stacked = np.stack([run.pairs.values[kind][at] for kind in kinds], axis=1)  # [e, kinds, L, H, L, H]
    layers, heads = stacked.shape[2:4]
    count = layers * heads
    stacked = stacked.reshape(len(at), len(kinds), count, count)
    # Both directions side by side: row h holds what h writes to others, then what others write to h.
    both = np.concatenate([stacked, stacked.swapaxes(2, 3)], axis=3)
    flat = np.where(np.isfinite(both), both, -np.inf).transpose(0, 2, 1, 3).reshape(len(at), count, -1)
    values = np.full((len(kept), count), np.nan)
    texts = [[""] * count for _ in range(len(kept))]
    for row, place in enumerate(there):
        best = flat[row].argmax(axis=1)
        for head, chosen in enumerate(best):
            value = flat[row, head, chosen]
            if np.isfinite(value):
                kind, other = divmod(int(chosen), 2 * count)
                arrow = "→" if other < count else "←"
                texts[place][head] = f"{arrow} {run.head_names[other % count]} {kinds[kind].upper()}"
                values[place, head] = value
    about = "The pair with the highest composition above random factors: → the head writes to, ← it reads from"
    return [Column("partner", "strongest partner", "", about, True, False, values, texts=texts)]


def _places(wanted: Array, steps: Array) -> tuple[Array, Array]:
    """Where steps of a sparse table stand among the wanted ones, and which they are."""
    there = np.flatnonzero(np.isin(wanted, steps))
    return there, np.searchsorted(steps, wanted[there])


def _packed(column: Column) -> dict[str, Any]:
    largest = float(np.nanmax(np.abs(column.values)))
    most = float(np.nanmax(np.abs(column.values - column.middle))) if column.most is None else column.most
    packed: dict[str, Any] = {
        "key": column.key,
        "label": column.label,
        "unit": column.unit,
        "about": column.about,
        "signed": column.signed,
        "optional": column.optional,
        # Three figures of the largest value, so that a column's decimal points stand below each other.
        "decimals": 3 if largest == 0 else int(np.clip(2 - np.floor(np.log10(largest)), 0, 5)),
        "middle": column.middle,
        "most": float(f"{most:.4g}"),
        "values": significant(column.values),
    }
    if column.stderr is not None and known(column.stderr):
        packed["stderr"] = significant(column.stderr, 2)
    if column.texts is not None:
        packed["texts"] = column.texts
    return packed


def _notes(run: RunContents, columns: Sequence[Column]) -> list[dict[str, str]]:
    """What the table lacks: because the model cannot have it, or because nobody measured it."""
    there = {column.key for column in columns}
    pairs = run.pairs.values if run.pairs else {}
    kinds = {kind for kind, _ in run.ablations.heads} if run.ablations else set[str]()
    expected = [name for name in _ABOUT if name not in there and not name.endswith("_shifted_key")]
    expected += [f"composition_{kind}" for kind in "qkv" if kind not in pairs]
    expected += [f"{kind}_ablation" for kind in ("zero", "pattern_preserving") if kind not in kinds]
    refused = run.info.not_applicable
    if not run.option("model", "smeared_keys", default=False):
        expected = [name for name in expected if name != "smear"]
    reasons: dict[str, list[str]] = {}
    for name in expected:
        if reason := refused.get(name):
            reasons.setdefault(reason, []).append(_spoken(name))
    notes = [{"text": f"Not applicable: {', '.join(names)} ({reason})."} for reason, names in reasons.items()]
    if missing := [_spoken(name) for name in expected if name not in refused]:
        text = f"Not in these records: {', '.join(missing)}."
        hint = {"text": f"{text} Measured from the saved weights by", "command": measure_command(run)}
        notes.append(hint if run.weights and not run.going else {"text": text})
    return notes


def _spoken(measure: str) -> str:
    kind = measure.removeprefix("composition_")
    return label_of(measure) if kind == measure else f"{kind.upper()}-composition"
