"""In-context learning, copying and the best induction head over training, for all runs of a study.

    python analysis/icl_and_heads.py runs/quickstart [--out DIR] [--scale linear]

Writes icl_and_heads.png and .csv to DIR, by default to `analysis/` in the study. Shaded: the interval in which the
event of that panel was located, in the run's colour.
"""

from collections.abc import Sequence
from pathlib import Path

import command
import notation
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from induction_bump.locate.run import find
from induction_bump.records.load import Records, load

PANELS = {"icl_window_score": "icl", "ordered_copy_advantage": "copy_advantage", "prefix_matching": "prefix_matching"}
"""Quantity → the event that is located on it."""


def gather(records: Records) -> pd.DataFrame:
    """One row a run, snapshot and quantity: run_id, run, label, step, tokens, quantity, value, stderr, head."""
    scalars = records.read("scalars", name=list(PANELS)).rename(columns={"name": "quantity"})
    heads = records.read("heads", measure="prefix_matching")
    best = heads.loc[heads.groupby(["run_id", "step"])["value"].idxmax()].assign(quantity="prefix_matching")
    best["head"] = [f"L{layer}H{head}" for layer, head in zip(best["layer"], best["head"], strict=True)]
    rows = pd.concat([scalars, best.drop(columns=["layer", "measure"])])
    labels = notation.label_runs(records.runs)
    rows = rows.assign(
        run=rows["run_id"].map(records.runs.set_index("run_id")["run"]), label=rows["run_id"].map(labels)
    )
    columns = ["run_id", "run", "label", "step", "tokens", "quantity", "value", "stderr", "head"]
    return rows[columns].sort_values(["run", "quantity", "step"]).reset_index(drop=True)


def draw(rows: pd.DataFrame, events: pd.DataFrame, title: str, scale: str) -> Figure:
    """Three panels over tokens, a line a run, the located intervals shaded."""
    colours = notation.colours(rows.drop_duplicates("run_id")["label"].tolist())
    figure, panels = plt.subplots(len(PANELS), sharex=True, figsize=(6.4, 6.6), layout="constrained")
    shown = rows[rows["tokens"] > 0] if scale == "log" else rows
    for axes, (quantity, event) in zip(panels, PANELS.items(), strict=True):
        axes.set_ylabel(notation.LABELS[quantity])
        for run_id, line in shown[shown["quantity"] == quantity].groupby("run_id", sort=False):
            colour = colours[line["label"].iloc[0]]
            _draw_line(axes, line, colour)
            located = events[(events["run_id"] == run_id) & (events["event"] == event) & events["found"]]
            for low, high in located[["tokens_low", "tokens_high"]].itertuples(index=False):
                axes.axvspan(low, high, color=colour, alpha=0.25, lw=0)
            if quantity == "prefix_matching" and len(located):
                _name_head(axes, line, float(located["tokens_low"].iloc[0]), colour)
        if shown.empty:
            notation.say(axes, "not measured after step 0")
    notation.token_axis(panels[-1], scale)
    if shown["tokens"].nunique() > 1:
        panels[-1].set_xlim(shown["tokens"].min(), shown["tokens"].max())
    figure.align_ylabels(panels)
    panels[0].set_title(title, loc="left", fontweight="bold")
    entries = [plt.Line2D([], [], color=colour, label=label) for label, colour in colours.items()]
    panels[0].legend(handles=entries, loc="best")
    return figure


def _draw_line(axes: Axes, line: pd.DataFrame, colour: str) -> None:
    stderr = line["stderr"].astype(float).fillna(0.0)
    edges = (line["value"] - stderr, line["value"] + stderr)
    notation.curve(axes, line["tokens"], line["value"], edges, colour)


def _name_head(axes: Axes, line: pd.DataFrame, onset: float, colour: str) -> None:
    """Write which head is the best at the end, beside the rise of its score."""
    height = 0.5 * line["value"].iloc[-1]
    left = max(onset, line["tokens"].min())
    place = {"xytext": (-4, 0), "textcoords": "offset points", "ha": "right", "va": "center"}
    axes.annotate(line["head"].iloc[-1], (left, height), color=colour, fontweight="bold", **place)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Draw a study; returns the path of the PNG."""
    parser = command.parser(__doc__, "a study or a single run")
    parser.add_argument("--scale", choices=["log", "linear"], default="log", help="scale of the token axis")
    chosen = parser.parse_args(arguments)
    out: Path = chosen.out or chosen.study / "analysis"
    notation.use_style()
    records = load(chosen.study)
    rows = gather(records)
    figure = draw(rows, find(chosen.study).table, chosen.study.resolve().name, chosen.scale)
    out.mkdir(parents=True, exist_ok=True)
    rows.to_csv(out / "icl_and_heads.csv", index=False)
    figure.savefig(out / "icl_and_heads.png")
    plt.close(figure)
    print(f"wrote {out / 'icl_and_heads.png'} and .csv")
    return out / "icl_and_heads.png"


if __name__ == "__main__":
    command.run(main)
