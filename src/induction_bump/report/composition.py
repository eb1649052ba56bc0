"""How heads work together, read from weights: composition of every pair, and the two eigenvalue scores."""

import numpy as np

from induction_bump.report.contents import Array, RunContents, head_name
from induction_bump.report.curves import Figure, moments, not_measured, spread
from induction_bump.report.numbers import known, rounded

_BUDGET = 150_000
"""Most pairs over all snapshots; where there are more, snapshots are left out evenly."""
_SCATTER_BUDGET = 60_000
"""Most numbers of the eigenvalue figure, likewise."""

_KINDS = {
    "q": ("Q", "what queries read"),
    "k": ("K", "what keys read"),
    "v": ("V", "what values read"),
}
THOUSANDTHS = 1000
"""Composition is sent as whole thousandths: shorter, and finer than a colour shows."""


def composition(run: RunContents) -> Figure:
    """Heads that write × heads of later layers that read, for queries, keys and values."""
    figure: Figure = {
        "id": "composition",
        "section": "Composition",
        "kind": "composition",
        "title": "Composition of heads",
        "caption": "How much of what an earlier head (across) writes a later head (up) reads, above random factors of "
        "the same shapes. An induction head stands out where its keys read a previous-token head.",
    }
    measures = [f"composition_{kind}" for kind in _KINDS]
    if run.pairs is None or not run.pairs.values:
        return figure | not_measured(run, measures)
    layers, heads = next(iter(run.pairs.values.values())).shape[1:3]
    per_snapshot = len(run.pairs.values) * layers * (layers - 1) // 2 * heads**2
    steps = run.pairs.moments.steps
    kept = spread(len(steps), max(2, _BUDGET // max(1, per_snapshot)))
    names = [head_name(layer, head) for layer in range(layers) for head in range(heads)]
    kinds = [
        {
            "name": _KINDS[kind][0],
            "reads": _KINDS[kind][1],
            "baseline": round(run.pairs.baseline[kind], 3),
            "values": _ragged(run.pairs.values[kind][kept]),
        }
        for kind in _KINDS
        if kind in run.pairs.values
    ]
    everything = np.concatenate([run.pairs.values[kind][kept].ravel() for kind in run.pairs.values])
    if not known(everything):
        return figure | not_measured(run, measures)
    baselines = [f"{value:.3f}" for value in (min(run.pairs.baseline.values()), max(run.pairs.baseline.values()))]
    figure["caption"] += f" Random factors alone give {' to '.join(dict.fromkeys(baselines))}."
    return moments(figure, steps, run.pairs.moments.tokens, kept) | {
        "heads": heads,
        "writers": names[:-heads],
        "readers": names[heads:],
        "kinds": kinds,
        "range": max(0.02, round(float(np.nanmax(np.abs(everything))), 3)),
    }


def _ragged(values: Array) -> list[list[list[int | None]]]:
    """From [E, L, H, L, H] by snapshot and reader: values for the writers of all layers before it, in thousandths."""
    count, layers, heads = values.shape[:3]
    whole = np.round(values.astype(np.float64) * THOUSANDTHS)
    rows = []
    for layer in range(1, layers):
        for head in range(heads):
            read = whole[:, :layer, :, layer, head].reshape(count, -1)
            rows.append([[None if v != v else int(v) for v in line] for line in read.tolist()])
    return [[row[moment] for row in rows] for moment in range(count)]


def eigenvalues(run: RunContents) -> Figure:
    """Copying × matching of every head that has both (E21)."""
    figure: Figure = {
        "id": "eigenvalues",
        "section": "Composition",
        "kind": "scatter",
        "title": "Copying and matching by eigenvalues",
        "caption": "To the right: what the head writes raises the token it attends to. Up: its queries look for keys "
        "behind which the strongest previous-token head brought the same token. Induction heads tend to the shaded "
        "corner, though they need not where positions are learned. Heads of the first layer have no earlier head.",
    }
    measures = ("copying_eigenvalue", "qk_eigenvalue")
    copying, matching = (run.heads.get(name) for name in measures)
    if copying is None or matching is None:
        return figure | not_measured(run, measures)
    flat = [scores.reshape(len(run.steps), -1) for scores in (copying, matching)]
    both = np.isfinite(flat[0]) & np.isfinite(flat[1])
    there = np.flatnonzero(both.any(axis=1))
    if not len(there):
        return figure | not_measured(run, measures)
    heads = np.flatnonzero(both.any(axis=0))
    most = max(2, _SCATTER_BUDGET // (3 * len(heads)))
    kept = there[spread(len(there), most)]
    matched = run.heads.get("prefix_matching")
    shade = np.full(both.shape, np.nan) if matched is None else matched.reshape(both.shape)
    x, y, colour = (rounded(scores[kept][:, heads], 3) for scores in (*flat, shade))
    return moments(figure, run.steps[there], run.tokens[there], spread(len(there), most)) | {
        "names": [run.head_names[head] for head in heads],
        "x": x,
        "y": y,
        "colour": colour,
        "named_from": run.head_threshold("prefix_matching") or 0.1,
        "most": max(0.1, round(float(np.nanmax(shade)), 3)) if known(shade) else 1.0,
    }
