"""The figures of a run's page, as plain dicts that the page's script draws.

A figure has `id`, `section`, `kind`, `title`, `caption`; where there is nothing to draw, `empty` says why, and
`command` what would change that. Kinds:

- `time`: curves over training tokens. `traces` are Plotly traces whose `x` names an entry of the page's `axes` and
  whose `legendgroup` is what a legend entry switches; `band` is the half width of a band around `y`, `between` the
  lower and upper edge of one; colours are names of CSS variables, so that a figure follows the colour scheme.
- `field`: positions × tokens.
- `grid` (layers × heads), `table` (heads × measures), `composition` (heads × heads), `scatter` (a point a head) and
  `paths` (bars): one snapshot out of `steps`, chosen by a slider.
"""

import math
from collections.abc import Sequence

import numpy as np

from induction_bump.report.causal import causal_figures
from induction_bump.report.composition import composition, eigenvalues
from induction_bump.report.contents import Curve, RunContents
from induction_bump.report.curves import Figure, absent, curve, series
from induction_bump.report.heads import head_figures
from induction_bump.report.numbers import known, rounded

_MOST_ROWS = 128


def run_figures(run: RunContents) -> list[Figure]:
    """All figures of a run's page, in order."""
    heads, lost = head_figures(run)
    return [
        *_losses(run),
        _icl(run),
        _chosen_positions(run),
        _field(run),
        *_copying(run),
        *heads,
        composition(run),
        eigenvalues(run),
        lost,
        *causal_figures(run),
    ]


def run_axes(run: RunContents) -> dict[str, list[int]]:
    """Tokens of what the figures are drawn over."""
    axes = {"snapshots": run.tokens.tolist()}
    if run.ablations is not None:
        axes["ablations"] = run.ablations.moments.tokens.tolist()
    return axes if run.training is None else {**axes, "training": run.training[0].tolist()}


def _time(
    run: RunContents,
    figure_id: str,
    section: str,
    title: str,
    caption: str,
    y: str,
    curves: Sequence[tuple[str, str]],
) -> Figure:
    """A figure of scalars: `curves` are pairs of a scalar's name and its name for people."""
    there = [(name, label) for name, label in curves if name in run.scalars and known(run.scalars[name].values)]
    return {
        "id": figure_id,
        "section": section,
        "kind": "time",
        "title": title,
        "caption": caption,
        "y": y,
        "traces": [
            # The first is drawn last, above the others.
            curve("snapshots", name, label, run.scalars[name], series(i))
            for i, (name, label) in reversed(list(enumerate(there)))
        ],
        "legend": [{"key": name, "label": label, **series(i)} for i, (name, label) in enumerate(there)],
    } | ({} if there else {"empty": absent(run, "It has no values in these records.")})


def _losses(run: RunContents) -> list[Figure]:
    losses = _time(
        run,
        "loss",
        "Loss",
        "Training and held-out loss",
        "Look for a short stretch where the fall speeds up again: that is the bump in the loss itself.",
        "loss (nats per token)",
        [("loss", "held-out")],
    )
    if run.training is not None:
        tokens_loss = Curve(run.training[1], np.full(len(run.training[1]), np.nan))
        style = {"color": "--quiet", "dash": "solid", "width": 1.2}
        losses["traces"].insert(0, curve("training", "training", "training", tokens_loss, style))
        losses["legend"].append({"key": "training", "label": "training (binned mean)", **style})
        losses.pop("empty", None)
    split = _time(
        run,
        "predictable",
        "Loss",
        "Predictable and other tokens",
        "Tokens that copying would get right fall away from those that it would get wrong once induction heads work.",
        "loss (nats per token)",
        [("predictable_loss", "predictable by induction"), ("unpredictable_loss", "not predictable")],
    )
    return [losses] if "empty" in split else [losses, split]


def _icl(run: RunContents) -> Figure:
    early, late, window = (run.option("measures", "icl", key) for key in ("early", "late", "window"))
    at = f" (position {late} minus {early}; windows of {window})" if early and late and window else ""
    caption = (
        f"Late minus early loss{at}: more negative means more in-context learning, so a bump shows as a sudden fall."
    )
    curves = [("icl_window_score", "window score"), ("icl_score", "score at single positions")]
    return _time(run, "icl", "In-context learning", "In-context learning score", caption, "score (nats)", curves)


def _field(run: RunContents) -> Figure:
    figure: Figure = {
        "id": "positions",
        "section": "In-context learning",
        "kind": "field",
        "title": "Loss by position over training",
        "caption": "Later positions have more context to learn from; at the bump their losses drop together while "
        "those of early positions stay.",
        "x": "snapshots",
    }
    if run.positions is None:
        return figure | {"empty": absent(run, "Losses by position are not in these records.")}
    position, loss = run.positions.position, run.positions.loss
    width = math.ceil(len(position) / _MOST_ROWS)
    starts = np.arange(0, len(position), width)
    count = np.add.reduceat(np.isfinite(loss), starts, axis=1)
    total = np.add.reduceat(np.nan_to_num(loss), starts, axis=1)
    rows = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    early = int(run.option("measures", "icl", "early", default=position[0]))
    window = int(run.option("measures", "icl", "window", default=1))
    inside = (position >= early) & (position < early + window)
    # A snapshot of which the early positions are missing has nothing to be compared with.
    reference = loss[:, inside].mean(axis=1) if inside.any() else np.full(len(loss), np.nan)
    relative = rows - reference[:, None]
    ends = np.append(position[starts[1:]] - 1, position[-1])
    return figure | {
        "edges": [*position[starts].tolist(), int(position[-1]) + 1],
        "labels": [str(a) if a == b else f"{a}–{b}" for a, b in zip(position[starts], ends, strict=True)],
        "z": rounded(rows.T, 3),
        "reference": rounded(reference, 3),
        "reference_label": f"relative to positions {early}–{early + window - 1}",
        "range": rounded(np.nanpercentile(rows, [1, 99]), 3),
        "relative_range": round(float(np.nanpercentile(np.abs(relative), 98)), 3) if known(relative) else None,
    }


def _chosen_positions(run: RunContents) -> Figure:
    figure: Figure = {
        "id": "chosen",
        "section": "In-context learning",
        "kind": "time",
        "title": "Loss at chosen positions",
        "caption": "Curves lie on each other while the model ignores its context, and fan out once it learns from it.",
        "y": "loss (nats)",
        "traces": [],
        "legend": [],
    }
    if run.positions is None:
        return figure | {"empty": absent(run, "Losses by position are not in these records.")}
    for place, (column, position) in enumerate(_choice(run)):
        label, key = f"position {position}", f"position:{position}"
        style = {"color": f"--order-{place}", "dash": "solid"}
        drawn = Curve(run.positions.loss[:, column], run.positions.stderr[:, column])
        figure["traces"].append(curve("snapshots", key, label, drawn, style))
        figure["legend"].append({"key": key, "label": label, **style})
    return figure


def _choice(run: RunContents) -> list[tuple[int, int]]:
    """At most five positions, with their columns: the first, those of the ICL score, one between, the last."""
    assert run.positions is not None
    position = run.positions.position
    first, last = int(position[0]), int(position[-1])
    early = int(run.option("measures", "icl", "early", default=round(math.sqrt(first * last))))
    late = int(run.option("measures", "icl", "late", default=last))
    wanted = {first, early, round(math.sqrt(early * late)), late, last}
    return [(int(np.searchsorted(position, p)), p) for p in sorted(wanted) if p in position]


def _copying(run: RunContents) -> list[Figure]:
    advantage = _time(
        run,
        "copy",
        "Copying",
        "Copy advantage",
        "Nats saved on the second copy of random tokens; ordered: against the same tokens shuffled, which only "
        "copying in order can win.",
        "advantage (nats per token)",
        [("ordered_copy_advantage", "ordered copy advantage"), ("copy_advantage", "copy advantage")],
    )
    nats, pool = run.option("locate", "copy_nats"), run.info.probes.get("repeats", {}).get("pool")
    if isinstance(nats, int | float) and isinstance(pool, int | float) and pool > 1:
        threshold = min(float(nats), math.log(pool) / 2)
        advantage["lines"] = [{"y": round(threshold, 4), "label": "event threshold", "dash": "dot"}]
    copies = _time(
        run,
        "copies",
        "Copying",
        "Loss on repeated random tokens",
        "Nothing predicts the first copy; the second falls when the model looks back, the shuffled one much less.",
        "loss (nats per token)",
        [
            ("second_copy_loss", "second copy"),
            ("shuffled_copy_loss", "shuffled second copy"),
            ("first_copy_loss", "first copy"),
        ],
    )
    return [advantage] if "empty" in copies else [advantage, copies]
