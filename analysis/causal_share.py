"""How much of in-context learning is lost without the induction heads, over training, against matched heads.

    python analysis/causal_share.py runs/smeared_keys [--kind pattern_preserving] [--out DIR]

Above in nats, below as a share of what there is at that snapshot (shown from 0.1 nat on), for the ICL score and for the
ordered copy advantage: without the induction heads together, a line a run in the colour of its cell (with two standard
errors where each cell has one run), and the range over equally many other heads of the same layers. Needs `bump measure
STUDY --measures group_ablation`, and draws the runs in which that was taken at several snapshots. Writes
causal_share.png, .svg and causal_share.csv (a row a run, snapshot and quantity; every run) to DIR, by default to
`analysis/` in the study.
"""

from collections.abc import Sequence
from pathlib import Path

import command
import notation
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from times_by_cell import QUIET

from induction_bump.linking.causal_share import KIND, QUANTITIES, at_the_end, causal_shares
from induction_bump.records.cells import cells
from induction_bump.records.load import Records, load

TITLES = {"icl_window_score": "ICL score, windows", "ordered_copy_advantage": "ordered copy advantage"}


def gather(records: Records, kind: str) -> pd.DataFrame:
    """What `causal_shares` gives, with each run's name and cell and whether too few other heads are left to match."""
    rows = causal_shares(records, kind)
    runs = records.runs.set_index("run_id")
    without = {
        run_id: bool((groups or {}).get("induction", {}).get("no_match")) for run_id, groups in runs["groups"].items()
    }
    cell = cells(records.runs).table["cell"]
    ids = rows["run_id"]
    return rows.assign(run=ids.map(runs["run"]), cell=ids.map(cell), no_match=ids.map(without))


def draw(rows: pd.DataFrame, title: str) -> Figure:
    """Nats above, shares below, a column a quantity, a line a run in the colour of its cell."""
    shown = rows[rows["tokens"] > 0]
    colours = notation.colours(shown["cell"].tolist())
    alone = shown["run_id"].nunique() == len(colours)
    figure, axes = plt.subplots(2, 2, figsize=(9.4, 6.0), layout="constrained", sharex=True)
    for column, quantity in enumerate(QUANTITIES):
        part = shown[shown["quantity"] == quantity]
        for (cell, _), own in part.groupby(["cell", "run"], sort=False):
            _line(axes[0, column], own, "lost", colours[cell], band=alone)
            _line(axes[1, column], own, "share", colours[cell], band=alone)
            if own["draws"].max() > 0:
                edges = (own["matched_low"], own["matched_high"])
                notation.band(axes[0, column], own["tokens"], *edges, QUIET, 0.3 if alone else 0.1)
                dashed = {"linewidth": 1, "linestyle": "--"}
                notation.curve(axes[1, column], own["tokens"], own["matched_share"], None, QUIET, **dashed)
        axes[0, column].set_title(TITLES[quantity], fontsize=9)
        for panel in axes[:, column]:
            panel.axhline(0, color=QUIET, lw=0.8)
        axes[1, column].axhline(1, color=QUIET, lw=0.8, ls=":")
        notation.token_axis(axes[1, column])
    axes[0, 0].set_ylabel("lost without them (nats)")
    axes[1, 0].set_ylabel("share lost")
    for panel, quantity in zip(axes[1], QUANTITIES, strict=True):
        panel.set_ylim(-0.25, 1.5)
        if shown.loc[shown["quantity"] == quantity, "share"].isna().all():
            notation.say(panel, "no share: what there is to lose is too small")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    entries = [plt.Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    if shown["draws"].max() > 0:
        entries.append(plt.Line2D([], [], color=QUIET, lw=4, alpha=0.5, label="matched sets: range, and mean share"))
    missing = shown.loc[shown["no_match"], "run"].nunique()
    if missing:
        label = f"no matched set in {missing} of {shown['run'].nunique()} runs: too few other heads"
        entries.append(plt.Line2D([], [], ls="", label=label))
    figure.legend(handles=entries, loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _line(axes: Axes, own: pd.DataFrame, value: str, colour: str, *, band: bool) -> None:
    """A run's line, with two standard errors on either side where it is the only one of its colour."""
    own = own.sort_values("tokens")
    edges = None
    if band:
        edges = (own[value] - 2 * own[f"{value}_stderr"], own[value] + 2 * own[f"{value}_stderr"])
    notation.curve(axes, own["tokens"], own[value], edges, colour, linewidth=1.3 if band else 0.8)


def summary(rows: pd.DataFrame) -> str:
    """What is lost at the end, a line a cell and quantity: means over runs, and the least and most of any run."""
    lines = []
    for (cell, quantity), own in at_the_end(rows).groupby(["cell", "quantity"], sort=False):
        lost = f"{cell}, {len(own)} runs: {_over_runs(own['lost'], '+.2f')} nats of {TITLES[str(quantity)]} lost"
        share = "" if own["share"].isna().all() else f", {_over_runs(own['share'], '.0%')} of it"
        matched = own[own["draws"] > 0]
        beside = "no matched set"
        if len(matched):
            some = "" if len(matched) == len(own) else f" in {len(matched)} runs"
            beside = f"{_over_runs(matched['matched'], '+.2f')} without as many other heads{some}"
        lines.append(f"{lost}{share}; {beside}")
    return "\n".join(lines)


def _over_runs(values: pd.Series, form: str) -> str:
    mean = f"{values.mean():{form}}"
    return mean if values.count() == 1 else f"{mean} ({values.min():{form}} to {values.max():{form}})"


def main(arguments: Sequence[str] | None = None) -> Path:
    """Draw a study or run; returns the path of the PNG."""
    parser = command.parser(__doc__, "a study or a single run")
    parser.add_argument("--kind", default=KIND, choices=["pattern_preserving", "zero", "mean"], help="of ablation")
    chosen = parser.parse_args(arguments)
    out: Path = chosen.out or chosen.study / "analysis"
    notation.use_style()
    rows = gather(load(chosen.study), chosen.kind)
    if rows.empty:
        parser.error(f"{chosen.study}: no groups were ablated; bump measure {chosen.study} --measures group_ablation")
    out.mkdir(parents=True, exist_ok=True)
    rows.to_csv(out / "causal_share.csv", index=False)
    print(summary(rows))
    if not (rows["tokens"] > 0).any():
        print(f"wrote {out / 'causal_share.csv'}; no run was measured after step 0")
        return out / "causal_share.csv"
    figure = draw(rows, f"{chosen.study.resolve().name}: lost without the induction heads ({chosen.kind})")
    notation.save(figure, out / "causal_share")
    print(f"wrote {out / 'causal_share.png'}, .svg and .csv")
    return out / "causal_share.png"


if __name__ == "__main__":
    command.run(main)
