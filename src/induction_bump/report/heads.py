"""Figures of the single heads: their curves, the grid, and which of them are named."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from induction_bump.report.contents import Array, Curve, RunContents, ranked
from induction_bump.report.curves import (
    Figure,
    chance,
    curve,
    in_order,
    is_signed,
    label_of,
    moments,
    no_heads,
    not_measured,
    seldom,
    series,
    spread,
)
from induction_bump.report.head_table import VARIANTS, head_table
from induction_bump.report.numbers import rounded

_MOST_NAMED = 4
_LEAST_NAMED = 2
_FEW_HEADS = 8
_GRID_BUDGET = 200_000
"""Most values in the grid; where snapshots × measures × heads are more, snapshots are left out evenly."""


@dataclass(frozen=True)
class HeadCurves:
    """What a figure with a curve a head shows."""

    figure: Figure
    """Its `id`, `section`, `title`, `caption` and `y`."""
    measures: tuple[str, ...]
    """What has to be measured for it."""
    axis: str
    scores: Array | None
    """[S, L, H] over the snapshots of `axis`."""
    stderr: Array | None = None
    threshold: float | None = None
    """From where a head is named although the best are named already."""


def head_figures(run: RunContents) -> tuple[list[Figure], Figure]:
    """Curves, grid and table of the heads in the order of the page, and the figure of their ablations."""
    curves = [*_scores(run), _lost(run)]
    # A head has the same colour in all figures.
    named = [_named(run, each) for each in curves]
    everywhere = dict.fromkeys(name for names in named for name in names)
    colours = {name: series(i) for i, name in enumerate(everywhere)}
    drawn = [
        _head_curves(run, each, {name: colours[name] for name in names})
        for each, names in zip(curves, named, strict=True)
    ]
    for figure, each in zip(drawn[:-1], curves, strict=False):
        if "empty" not in figure:
            figure["lines"] = _levels(run, each.measures[0])
    return [*drawn[:-1], _grid(run), head_table(run)], drawn[-1]


def _scores(run: RunContents) -> list[HeadCurves]:
    wanted = (
        (
            "prefix_matching",
            "Prefix matching by head",
            "Attention from a repeated token to what followed it before: heads that rise from the null level are "
            "induction heads.",
        ),
        (
            "previous_token",
            "Previous-token attention by head",
            "Attention to the token just before: a head of an earlier layer rises first, and induction heads build "
            "on it.",
        ),
    )
    return [
        HeadCurves(
            {"id": measure, "section": "Heads", "title": title, "caption": caption, "y": "attention (0 to 1)"},
            (measure,),
            "snapshots",
            run.heads.get(measure),
            threshold=run.head_threshold(measure),
        )
        for measure, title, caption in wanted
    ]


def _lost(run: RunContents) -> HeadCurves:
    figure = {
        "id": "lost",
        "section": "Ablations and paths",
        "title": "Ordered copy advantage lost without a head",
        "caption": "The head's output set to 0 and the patterns of later heads kept: what of the copying its own "
        "output carries. What it does by forming the patterns of later heads shows in plain zero ablation (see the "
        "table).",
        "y": "advantage lost (nats per token)",
    }
    measures = ("pattern_preserving_ablation",)
    found = run.ablations and run.ablations.heads.get(("pattern_preserving", "ordered_copy_advantage"))
    if not found:
        return HeadCurves(figure, measures, "ablations", None)
    return HeadCurves(figure, measures, "ablations", -found.values, found.stderr, threshold=0.1)


def _named(run: RunContents, curves: HeadCurves) -> list[str]:
    """All heads where they are few; else the best that count, and always some."""
    best = [] if curves.scores is None else ranked(run.head_names, curves.scores)
    if len(run.head_names) <= _FEW_HEADS:
        return [name for name, _ in best]
    least = -math.inf if curves.threshold is None else curves.threshold
    return [name for place, (name, score) in enumerate(best[:_MOST_NAMED]) if place < _LEAST_NAMED or score >= least]


def _head_curves(run: RunContents, curves: HeadCurves, colours: Mapping[str, dict[str, Any]]) -> Figure:
    figure: Figure = {"kind": "time", **curves.figure, "traces": [], "legend": []}
    if curves.scores is None:
        if curves.axis == "snapshots":
            return figure | {"empty": no_heads(run)}
        return figure | not_measured(run, curves.measures)
    scores = curves.scores.reshape(len(curves.scores), -1)
    errors = np.full(scores.shape, np.nan) if curves.stderr is None else curves.stderr.reshape(scores.shape)
    best = dict(ranked(run.head_names, scores))
    nothing = np.full(len(scores), np.nan)
    for place, name in enumerate(run.head_names):
        if name not in colours:
            style = {"color": "--quiet", "dash": "solid", "width": 0.8}
            figure["traces"].append(curve(curves.axis, "heads:other", name, Curve(scores[:, place], nothing), style))
    for name in sorted(colours, key=lambda name: -best.get(name, -math.inf)):
        place = run.head_names.index(name)
        drawn = Curve(scores[:, place], errors[:, place])
        figure["traces"].append(curve(curves.axis, f"head:{name}", name, drawn, colours[name]))
        value = f"{best[name]:.2f}".replace("-", "−") if math.isfinite(best.get(name, math.nan)) else ""
        figure["legend"].append({"key": f"head:{name}", "label": name, "value": value, **colours[name]})
    if others := len(run.head_names) - len(colours):
        style = {"color": "--quiet", "dash": "solid"}
        figure["legend"].append({"key": "heads:other", "label": f"{others} other heads", **style})
    if curves.axis == "ablations" and run.ablations:
        figure |= seldom(run, run.ablations.moments.tokens, curves.measures)
    return figure


def _levels(run: RunContents, measure: str) -> list[dict[str, Any]]:
    null, threshold = run.null99.get(measure), run.head_threshold(measure)
    return [
        {"y": round(y, 4), "label": label, "dash": dash}
        for y, label, dash in ((null, "null99", "dash"), (threshold, "event threshold", "dot"))
        if y is not None
    ]


def _grid(run: RunContents) -> Figure:
    figure: Figure = {
        "id": "grid",
        "section": "Heads",
        "kind": "grid",
        "title": "All heads at one snapshot",
        "caption": "Each cell is a head, layer 0 at the bottom; move through training and watch single cells light up.",
    }
    names = _in_grid(list(run.heads))
    if not names:
        return figure | {"empty": no_heads(run)}
    scores = run.heads[names[0]]
    kept = spread(len(run.steps), _GRID_BUDGET // (len(names) * scores[0].size))
    return moments(figure, run.steps, run.tokens, kept) | {
        "layers": scores.shape[1],
        "heads": scores.shape[2],
        "measures": [
            {
                "name": name,
                "label": label_of(name),
                "signed": is_signed(name),
                "middle": round(chance(run, name), 3),
                "values": rounded(run.heads[name][kept].reshape(len(kept), -1), 3),
            }
            for name in names
        ],
    }


def _in_grid(measures: Sequence[str]) -> list[str]:
    """All measures but the other forms of the same one, which the table has."""
    return [name for name in in_order(measures) if not name.endswith(VARIANTS)]
