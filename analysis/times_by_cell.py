"""The time of the bump of every run, a row a cell: what the figures of treatments and of sizes share."""

from collections.abc import Sequence
from typing import Any

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
BOUND: dict[str, Any] = {"s": 22, "color": QUIET, "facecolor": "white", "zorder": 3}
"""How a run is marked of which only a bound is known."""


def by_cell(records: Records, event: str) -> tuple[pd.DataFrame, Cells]:
    """Rows of `event_times` with each run's cell and seed, and the cells.

    Raises RecordsError where nothing is known of the time of any run.
    """
    sorted_into, times = cells(records.runs), event_times(records, event)
    if not times["state"].isin(["located", "after"]).any():
        had = "every run of which anything is known had it from the start"
        why = had if (times["state"] == "before").any() else "of no run is known when it was, or that it was not"
        raise RecordsError(f"{records.path}: {event}: {why}")
    return times.join(sorted_into.table[["cell", "seed"]], on="run_id"), sorted_into


def in_order(rows: pd.DataFrame) -> list[str]:
    """Cells by their geometric mean time; those that had the bump from the start first, those without one last."""
    means = np.log(rows["estimate"]).groupby(rows["cell"], sort=False).mean()
    early = (rows["state"] == "before").groupby(rows["cell"], sort=False).any()
    means = means.mask(means.isna() & early, -np.inf)
    return means.sort_values(na_position="last", kind="stable").index.tolist()


def upper_bounds(rows: pd.DataFrame) -> pd.Series:
    """By when each run had the bump, where a logarithmic axis can show it: 0 is put at the first moment that is told of
    any run, as the law reads it (`Sightings.of_tokens`).
    """
    ends = rows[["low", "high"]].to_numpy(np.float64)
    return rows["high"].clip(lower=ends[np.isfinite(ends) & (ends > 0)].min(initial=np.inf))


def times_by_cell(axes: Axes, rows: pd.DataFrame, order: Sequence[str]) -> None:
    """A dot a run with the interval of its time, and its cell's geometric mean; a triangle where only a bound is known,
    which points to where the time lies.
    """
    rows = rows.assign(by=upper_bounds(rows))
    colour = notation.COLOURS[0]
    for place, cell in enumerate(order):
        own = rows[rows["cell"] == cell].sort_values("seed").reset_index(drop=True)
        heights = place + np.linspace(-0.24, 0.24, len(own)) if len(own) > 1 else np.array([float(place)])
        located, after, before = ((own["state"] == state).to_numpy() for state in ("located", "after", "before"))
        axes.hlines(heights[located], own["low"][located], own["high"][located], color=colour, alpha=0.5, lw=1.5)
        axes.scatter(own["estimate"][located], heights[located], s=13, color=colour, zorder=3)
        axes.scatter(own["low"][after], heights[after], marker=">", **BOUND)
        axes.scatter(own["by"][before], heights[before], marker="<", **BOUND)
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
    ]
    for state, marker, label in (("after", ">", "not by then"), ("before", "<", "from the start")):
        if (rows["state"] == state).any():
            entries.append(plt.Line2D([], [], color=QUIET, marker=marker, mfc="white", ls="", label=label))
    axes.legend(handles=entries, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8)
