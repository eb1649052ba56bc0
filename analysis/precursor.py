"""Does the previous-token head announce the bump? Its time against the bump's, within cells.

    python analysis/precursor.py runs/smeared_keys [--first previous_token] [--second icl] [--out DIR]

Left: a dot a run with both intervals, a colour a cell, and the line of Howe 2026, 1.19 times the tokens. Right: the
ratio of the two times of each run, with all that its snapshots leave open, and the geometric mean of each cell with its
90 % interval. The rank correlation is taken within cells and put together, since over cells a sweep moves both times.
Writes precursor.png, .svg and precursor.csv (a row a run) to DIR, by default to `analysis/` in the study, which must
have been located (`bump locate STUDY`).
"""

from collections.abc import Sequence
from pathlib import Path

import command
import notation
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from times_by_cell import QUIET

from induction_bump.linking.claims.evidence import mean_interval
from induction_bump.linking.correlations import RankCorrelation, within_cells
from induction_bump.linking.lags import PAIRS, lags
from induction_bump.linking.times import event_times
from induction_bump.records.cells import cells
from induction_bump.records.load import Records

HOWE = 1.19


def gather(records: Records, first: str, second: str) -> pd.DataFrame:
    """One row a run that has both events: cell, both times with their brackets (tokens), and their lag."""
    between = lags(records).query("first == @first and second == @second and source == 'event'").dropna(subset="lag")
    rows = between.drop(columns=["first", "second", "source"])
    for name in (first, second):
        times = event_times(records, name, "event").set_index("run_id")[["estimate", "low", "high"]]
        named = {"estimate": name, "low": f"{name}_low", "high": f"{name}_high"}
        rows = rows.join(times.rename(columns=named), on="run_id")
    return rows.join(cells(records.runs).table["cell"], on="run_id").reset_index(drop=True)


def draw(rows: pd.DataFrame, first: str, second: str, title: str) -> Figure:
    """Both times against each other, and their ratio."""
    colours = notation.colours(rows["cell"].tolist())
    height = max(3.8, 0.9 + 0.16 * len(rows))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, height), layout="constrained")
    for cell, own in rows.groupby("cell", sort=False):
        x, y = ([own[name] - own[f"{name}_low"], own[f"{name}_high"] - own[name]] for name in (first, second))
        left.errorbar(own[first], own[second], y, x, fmt="o", ms=3.5, color=colours[cell], lw=1, label=cell)
    ends = np.array([rows[first].min(), rows[first].max()]) * [0.9, 1.1]
    left.plot(ends, ends, color=QUIET, lw=0.8, label="at the same time")
    left.plot(ends, HOWE * ends, color=QUIET, lw=1, ls="--", label="1.19 times as late (Howe 2026)")
    for axis, name in ((left.xaxis, first), (left.yaxis, second)):
        axis.set_label_text(f"tokens to {name}")
    left.set_xscale("log")
    left.set_yscale("log")
    notation.token_ticks(left.xaxis)
    notation.token_ticks(left.yaxis)
    left.legend(fontsize=8)
    left.set_title(title, loc="left", fontweight="bold")
    _ratios(right, rows, colours, f"{second} over {first}, in tokens")
    return figure


def _ratios(axes: Axes, rows: pd.DataFrame, colours: dict[str, str], label: str) -> None:
    place = 0.0
    ticks: dict[str, float] = {}
    for cell, own in rows.groupby("cell", sort=False):
        own = own.sort_values("log_ratio")
        heights = place + np.arange(len(own))
        low, high = (np.exp(own[f"log_ratio_{end}"].clip(-3, 3)) for end in ("low", "high"))
        axes.hlines(heights, low, high, color=colours[cell], lw=1.2, alpha=0.6)
        axes.scatter(np.exp(own["log_ratio"]), heights, s=12, color=colours[cell], zorder=3)
        if len(own) > 1:
            mean, low, high = np.exp(mean_interval(own["log_ratio"].to_numpy()))
            axes.fill_betweenx([place - 0.6, heights[-1] + 0.6], low, high, color=colours[cell], alpha=0.2, lw=0)
            words = f"{mean:.2f} [{low:.2f}, {high:.2f}]"
            axes.annotate(
                words, (mean, heights[-1] + 0.7), ha="center", va="bottom", fontsize=8, backgroundcolor="white"
            )
        ticks[str(cell)] = float(heights.mean())
        place += len(own) + 2
    axes.axvline(1, color=QUIET, lw=0.8)
    axes.axvline(HOWE, color=QUIET, lw=1, ls="--")
    axes.set_yticks(list(ticks.values()), list(ticks))
    axes.grid(False, axis="y")
    axes.set_ylim(-1, place)
    axes.set_xlabel(label)


def correlation(rows: pd.DataFrame, first: str, second: str) -> RankCorrelation | None:
    """Within cells; None for too few runs."""
    return within_cells(rows[first].to_numpy(), rows[second].to_numpy(), rows["cell"].tolist()) if len(rows) else None


def summary(rows: pd.DataFrame, first: str, second: str) -> str:
    """Order and ratio in each cell, and the correlation, in a line each."""
    lines = []
    for cell, own in rows.groupby("cell", sort=False):
        counts = own["order"].value_counts()
        told = ", ".join(f"{name} in {counts[name]}" for name in ("before", "together", "after") if name in counts)
        line = f"{cell}: {second} comes {told} of {len(own)} runs"
        if len(own) > 1:
            ratio, low, high = np.exp(mean_interval(own["log_ratio"].to_numpy()))
            line += f", at {ratio:.2f} [{low:.2f}, {high:.2f}] times the tokens of {first}"
        lines.append(line)
    found = correlation(rows, first, second)
    if found:
        how = "exact" if found.exact else "by random rearrangements"
        lines.append(
            f"rank correlation within cells, {found.n} runs: {found.rho:.2f} [{found.low:.2f}, {found.high:.2f}], "
            f"p = {found.p:.2g} {how}"
        )
    return "\n".join([*lines, f"Howe 2026: at {HOWE} times the tokens, rank correlation 0.977"])


def main(arguments: Sequence[str] | None = None) -> Path:
    """Draw a study; returns the path of the PNG."""
    parser = command.parser(__doc__, "a study")
    parser.add_argument("--first", default="previous_token", choices=sorted({pair[0] for pair in PAIRS}))
    parser.add_argument("--second", default="icl", choices=sorted({pair[1] for pair in PAIRS}))
    chosen = parser.parse_args(arguments)
    if (chosen.first, chosen.second) not in PAIRS:
        parser.error(f"no lag from {chosen.first} to {chosen.second}")
    out: Path = chosen.out or chosen.study / "analysis"
    notation.use_style()
    rows = gather(command.load_located(chosen.study), chosen.first, chosen.second)
    if rows.empty:
        parser.error(f"{chosen.study}: no run has both {chosen.first} and {chosen.second} located")
    figure = draw(rows, chosen.first, chosen.second, chosen.study.resolve().name)
    out.mkdir(parents=True, exist_ok=True)
    rows.to_csv(out / "precursor.csv", index=False)
    notation.save(figure, out / "precursor")
    print(summary(rows, chosen.first, chosen.second))
    print(f"wrote {out / 'precursor.png'}, .svg and .csv")
    return out / "precursor.png"


if __name__ == "__main__":
    command.run(main)
