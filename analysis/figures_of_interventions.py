"""What is lost without a head, without the induction heads together, and without the paths through heads."""

import notation
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from measured_run import (
    QUIET,
    MeasuredRun,
    MissingError,
    by,
    head_lines,
    legend_below,
    line,
    of_layers,
    panels,
    titled,
)

KINDS = ("zero", "pattern_preserving", "mean")
QUANTITIES = {"ordered_copy_advantage": "Δ ordered copy\nadvantage (nats)", "loss": "Δ loss (nats)"}
"""Those that are drawn, and their axis."""
MOST_PATHS = 10
_COLUMNS = ["run_id", "step", "tokens", "at", "group", "draw", "kind", "quantity", "value", "stderr"]


def ablations(run: MeasuredRun) -> tuple[Figure, pd.DataFrame]:
    """What ablating each head changes, a column a kind of ablation."""
    rows = run.read("ablations", quantity=list(QUANTITIES))
    rows = rows[rows["layer"].notna()]
    kinds = [kind for kind in KINDS if kind in set(rows["kind"])]
    if not kinds:
        raise MissingError("the table ablations has no single heads")
    figure, axes = panels(len(QUANTITIES), len(kinds), 1.9, sharex=True, sharey="row")
    for row, (quantity, label) in enumerate(QUANTITIES.items()):
        for column, kind in enumerate(kinds):
            panel = axes[row, column]
            head_lines(panel, rows[(rows["quantity"] == quantity) & (rows["kind"] == kind)])
            panel.axhline(0, color=QUIET, lw=0.8)
            titled(panel, "" if row else kind, "" if column else label)
            run.time_axis(panel, labelled=row == len(QUANTITIES) - 1)
    legend_below(figure, of_layers(rows["layer"].astype(int)))
    return figure, rows[_COLUMNS]


def group(run: MeasuredRun) -> tuple[Figure, pd.DataFrame]:
    """What is lost without the induction heads together, against matched sets, and against one of them at a time."""
    rows = run.read("ablations", group="induction", quantity=["ordered_copy_advantage", "icl_window_score"])
    everything = run.read("ablations", quantity=["ordered_copy_advantage", "icl_window_score"])
    matched = everything[everything["group"] == "matched"]
    chosen = run.info.groups.get("induction", {})
    heads = [f"L{layer}H{head}" for layer, head in chosen.get("heads", [])]
    alone = everything[everything["at"].isin(heads if len(heads) > 1 else [])]
    labels = {
        "ordered_copy_advantage": "Δ ordered copy advantage (nats)",
        "icl_window_score": "Δ ICL score, windows (nats)",
    }
    figure, axes = panels(1, 2, 2.4)
    for panel, (quantity, label) in zip(axes[0], labels.items(), strict=True):
        of = {"quantity": quantity, "kind": "pattern_preserving"}
        for place, (_, own) in enumerate(by(_only(alone, of), "at").items()):
            line(panel, own, QUIET, None if place else "each of them alone", linewidth=0.9)
        if not matched.empty:
            _range(panel, _only(matched, of))
        line(panel, _only(rows, of), notation.COLOURS[0], ", ".join(heads) + (" together" if len(heads) > 1 else ""))
        panel.axhline(0, color=QUIET, lw=0.8)
        titled(panel, label)
        run.time_axis(panel)
    if matched.empty and chosen.get("no_match"):
        axes[0, 1].plot([], [], " ", label="no_match: too few other heads")
    legend_below(figure, axes[0, 1].get_legend_handles_labels()[0])
    return figure, pd.concat([rows, matched, alone])[_COLUMNS]


def _only(rows: pd.DataFrame, equals: dict[str, str]) -> pd.DataFrame:
    return rows[np.logical_and.reduce([rows[column] == value for column, value in equals.items()])]


def _range(axes: Axes, matched: pd.DataFrame) -> None:
    """Median and range of the draws."""
    draws = matched.pivot(index="tokens", columns="draw", values="value")
    colour = notation.COLOURS[4]
    label = f"{draws.shape[1]} matched sets, and their range"
    notation.curve(axes, draws.index, draws.median(axis=1), (draws.min(axis=1), draws.max(axis=1)), colour, label)


def paths(run: MeasuredRun) -> tuple[Figure, pd.DataFrame]:
    """Loss by path order over training, and the paths that matter most at the end."""
    rows = run.read("paths")
    orders = rows[rows["how"] == "up_to"]
    single = rows[(rows["how"] != "up_to") & (rows["path"] != "direct") & (rows["step"] == rows["step"].max())]
    figure, ((over_time, bars),) = panels(1, 2, 3.3)
    colours = (QUIET, *notation.COLOURS)
    for (order,), own in by(orders, "order").items():
        last = order == orders["order"].max()
        line(over_time, own, colours[int(order)], f"order ≤ {order}{', the loss itself' if last else ''}")
    over_time.legend()
    titled(over_time, "loss by path order", "nats")
    run.time_axis(over_time)
    worth = single.pivot(index="path", columns="how", values="value")
    if worth.empty:
        bars.axis("off")
        titled(bars, "single paths: attention-only models alone")
    else:
        _bars(bars, worth.loc[worth.abs().max(axis=1).nlargest(MOST_PATHS).index[::-1]])
    return figure, rows[["run_id", "step", "tokens", "path", "order", "how", "value", "stderr"]]


def _bars(axes: Axes, worth: pd.DataFrame) -> None:
    place = np.arange(len(worth))
    axes.barh(place + 0.2, -worth["added"], 0.4, color=notation.COLOURS[4], label="saved when added to direct alone")
    axes.barh(place - 0.2, worth["removed"], 0.4, color=notation.COLOURS[0], label="lost when removed from all")
    axes.set_yticks(place, worth.index)
    axes.grid(False, axis="y")
    axes.axvline(0, color=QUIET, lw=0.8)
    axes.set_xlabel("nats")
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.17))
    titled(axes, "paths that matter most at the end")
