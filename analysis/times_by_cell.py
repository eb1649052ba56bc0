"""The time of the bump of every run, a row a cell: what the figures of treatments and of sizes share."""

from collections.abc import Sequence

import notation
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from induction_bump.linking.times import event_times
from induction_bump.records.cells import Cells, cells
from induction_bump.records.load import Records
from induction_bump.records.schema import RecordsError

QUIET = "#666666"


def by_cell(records: Records, event: str) -> tuple[pd.DataFrame, Cells]:
    """Rows of `event_times` with each run's cell and seed, and the cells.

    Raises RecordsError where nothing is known of the time of any run.
    """
    sorted_into, times = cells(records.runs), event_times(records, event)
    if not times["state"].isin(["located", "after"]).any():
        raise RecordsError(f"{records.path}: of no run is known when {event} was, or that it was not")
    return times.join(sorted_into.table[["cell", "seed"]], on="run_id"), sorted_into


def in_order(rows: pd.DataFrame) -> list[str]:
    """Cells by their geometric mean time; those without a bump last."""
    means = np.log(rows["estimate"]).groupby(rows["cell"], sort=False).mean()
    return means.sort_values(na_position="last", kind="stable").index.tolist()


def times_by_cell(axes: Axes, rows: pd.DataFrame, order: Sequence[str]) -> None:
    """A dot a run with the interval of its time, its cell's geometric mean, a triangle where its records end before."""
    colour = notation.COLOURS[0]
    for place, cell in enumerate(order):
        own = rows[rows["cell"] == cell].sort_values("seed").reset_index(drop=True)
        heights = place + np.linspace(-0.24, 0.24, len(own)) if len(own) > 1 else np.array([float(place)])
        located, after = (own["state"] == "located").to_numpy(), (own["state"] == "after").to_numpy()
        axes.hlines(heights[located], own["low"][located], own["high"][located], color=colour, alpha=0.5, lw=1.5)
        axes.scatter(own["estimate"][located], heights[located], s=13, color=colour, zorder=3)
        axes.scatter(own["low"][after], heights[after], s=22, marker=">", color=QUIET, facecolor="white", zorder=3)
        if located.any():
            mean = float(np.exp(np.log(own["estimate"][located]).mean()))
            axes.vlines(mean, place - 0.36, place + 0.36, color=notation.COLOURS[1], lw=2, zorder=4)
    axes.set_yticks(range(len(order)), order)
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.grid(False, axis="y")
    notation.token_axis(axes)
    axes.set_xlabel(f"{notation.LABELS['tokens']} to the bump")
    entries = [
        plt.Line2D([], [], color=colour, marker="o", ms=4, label="a run, and the interval of its time"),
        plt.Line2D([], [], color=notation.COLOURS[1], lw=2, label="geometric mean"),
        plt.Line2D([], [], color=QUIET, marker=">", mfc="white", ls="", label="not by then"),
    ]
    shown = entries if (rows["state"] == "after").any() else entries[:2]
    axes.legend(handles=shown, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8)
