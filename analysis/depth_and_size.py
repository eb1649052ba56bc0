"""Is the ICL score the same in models of all sizes once they have had the bump, and do sizes change order at it?

    python analysis/depth_and_size.py runs/depth [--margin 0.1] [--event icl] [--out DIR]

Left: the ICL score of each run before the change and at the end, a row a model. Middle: the time of the bump. Right:
d loss / d ln tokens before and after the change against the number of parameters; Olsson et al. 2022 saw the order of
sizes invert there. That scores are the same is tested as such: two one-sided tests, within ± margin (nats), for every
two models that have the bump. Writes depth_and_size.png, .svg, depth_and_size.csv (a row a run) and
depth_and_size_same.csv (a row two models) to DIR, by default to `analysis/` in the study, which must have been located
(`bump locate STUDY`).
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
from times_by_cell import QUIET, by_cell, in_order, times_by_cell

from induction_bump.linking.claims.evidence import Evidence
from induction_bump.linking.equivalence import compare_pairs, seeds_for_equivalence
from induction_bump.locate.events import EVENTS
from induction_bump.records.load import Records

SCORE = "icl_window_score"
BEFORE, AFTER = notation.COLOURS[4], notation.COLOURS[0]


def gather(records: Records, event: str) -> pd.DataFrame:
    """One row a run: cell, parameters, time, ICL score before the change and at the end, slope of the loss (nats per
    e-fold of tokens) over a factor of 1.25 before and after the change; NaN where none was located or the records end.
    """
    study = Evidence(records)
    rows, _ = by_cell(records, event)
    for place, run_id in enumerate(rows["run_id"]):
        rows.loc[place, "parameters"] = float(study.setting("parameters")[run_id])
        rows.loc[place, "score_end"] = study.end(SCORE, run_id)
        rows.loc[place, "score_before"] = study.before(run_id)
        rows.loc[place, ["slope_before", "slope_after"]] = study.slopes(run_id)
    return rows


def same(rows: pd.DataFrame, margin: float) -> pd.DataFrame:
    """One row two models that have the bump: difference of their scores, 90 % interval, p of a difference of `margin`
    or more, verdict (`different` is corrected for all pairs), and the seeds a model with which sameness would be shown
    if it is true.
    """
    located = rows[rows["state"] == "located"]
    groups = {str(cell): own["score_end"].to_numpy() for cell, own in located.groupby("cell") if len(own) > 1}
    found = []
    for pair in compare_pairs(groups, margin) if len(groups) > 1 else []:
        spread = float(np.sqrt(np.mean([groups[name].var(ddof=1) for name in pair.groups])))
        verdict = "same" if pair.same else "different" if pair.differ else "cannot tell"
        seeds = seeds_for_equivalence(margin, spread)
        found.append((*pair.groups, pair.difference, pair.low, pair.high, margin, pair.p, verdict, seeds))
    columns = ["one", "other", "difference", "low", "high", "margin", "p", "verdict", "seeds_to_show_sameness"]
    return pd.DataFrame(found, columns=columns)


def draw(rows: pd.DataFrame, title: str) -> Figure:
    """Scores, times and slopes."""
    order = in_order(rows)
    height = 2.2 + 0.38 * len(order)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, height), layout="constrained")
    _scores(left, rows, order)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    times_by_cell(middle, rows, order)
    _slopes(right, rows, order)
    return figure


def _scores(axes: Axes, rows: pd.DataFrame, order: Sequence[str]) -> None:
    for place, cell in enumerate(order):
        own = rows[rows["cell"] == cell].sort_values("seed")
        heights = place + np.linspace(-0.2, 0.2, len(own)) if len(own) > 1 else np.array([float(place)])
        axes.scatter(own["score_end"], heights, s=14, color=AFTER, zorder=3)
        axes.scatter(own["score_before"], heights, s=14, color=BEFORE, zorder=3)
    axes.set_yticks(range(len(order)), order)
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.axvline(0, color=QUIET, lw=0.8)
    axes.set_xlabel("ICL score, windows (nats)")
    entries = [plt.Line2D([], [], color=BEFORE, marker="o", ms=4, ls="", label="before the change")]
    entries.append(plt.Line2D([], [], color=AFTER, marker="o", ms=4, ls="", label="at the end"))
    axes.legend(handles=entries, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8)


def _slopes(axes: Axes, rows: pd.DataFrame, order: Sequence[str]) -> None:
    known = rows.dropna(subset=["slope_before", "slope_after"])
    if known.empty:
        axes.axis("off")
        axes.text(
            0.5,
            0.5,
            "slopes: no change of the ICL score was located,\nor the records end soon after",
            ha="center",
            color=QUIET,
        )
        return
    for colour, column, label in ((BEFORE, "slope_before", "before"), (AFTER, "slope_after", "after")):
        axes.scatter(known["parameters"], known[column], s=14, color=colour, label=label, alpha=0.8)
        means = known.groupby("parameters")[column].mean()
        axes.plot(means.index, means, color=colour, lw=1)
    for cell in order:
        own = known[known["cell"] == cell]
        if len(own):
            top = float(own[["slope_before", "slope_after"]].to_numpy().max())
            place = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center", "fontsize": 8}
            axes.annotate(cell, (own["parameters"].iloc[0], top), **place)
    axes.margins(x=0.15, y=0.15)
    axes.set_xlabel("parameters")
    axes.set_ylabel("d loss / d ln tokens (nats)")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e3:g}k")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Draw a study; returns the path of the PNG."""
    parser = command.parser(__doc__, "a study over depths or sizes")
    parser.add_argument("--margin", type=float, default=0.1, help="nats within which scores are the same")
    parser.add_argument("--event", default="icl", choices=EVENTS, help="whose time (default: icl)")
    chosen = parser.parse_args(arguments)
    if chosen.margin <= 0:
        parser.error(f"--margin: {chosen.margin} must be positive")
    out: Path = chosen.out or chosen.study / "analysis"
    notation.use_style()
    rows = gather(command.load_located(chosen.study), chosen.event)
    pairs = same(rows, chosen.margin)
    figure = draw(rows, chosen.study.resolve().name)
    out.mkdir(parents=True, exist_ok=True)
    rows.to_csv(out / "depth_and_size.csv", index=False)
    pairs.to_csv(out / "depth_and_size_same.csv", index=False)
    notation.save(figure, out / "depth_and_size")
    for pair in pairs.itertuples():
        interval = f"{pair.difference:+.2f} nat [{pair.low:+.2f}, {pair.high:+.2f}]"
        needed = f"; {pair.seeds_to_show_sameness:g} seeds a model would" if pair.verdict == "cannot tell" else ""
        print(f"{pair.one} and {pair.other}: {interval} within ±{pair.margin:g}? {pair.verdict}{needed}")
    if pairs.empty:
        print("fewer than two models have the bump in two runs: nothing to compare")
    print(f"wrote {out / 'depth_and_size.png'}, .svg and .csv")
    return out / "depth_and_size.png"


if __name__ == "__main__":
    command.run(main)
