"""How much of in-context learning is lost without the induction heads, over training, against matched heads.

    python analysis/causal_share.py runs/smeared_keys [--kind pattern_preserving] [--out DIR]

Above in nats, below as a share of what there is at that snapshot (shown from 0.1 nat on), for the ICL score and for the
ordered copy advantage: without the induction heads together with two standard errors, and the range over equally many
other heads of the same layers. Needs `bump measure STUDY --measures group_ablation`, and draws the runs in which that
was taken at several snapshots. Writes causal_share.png, .svg and causal_share.csv (a row a run, snapshot and quantity;
every run) to DIR, by default to `analysis/` in the study.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import notation
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from times_by_cell import QUIET

from induction_bump.linking.causal_share import KIND, QUANTITIES, at_the_end, causal_shares
from induction_bump.records.load import Records, load

MOST_RUNS = 7
TITLES = {"icl_window_score": "ICL score, windows", "ordered_copy_advantage": "ordered copy advantage"}


def gather(records: Records, kind: str) -> pd.DataFrame:
    """What `causal_shares` gives, with each run's name and whether too few other heads are left for a matched set."""
    rows = causal_shares(records, kind)
    runs = records.runs.set_index("run_id")
    without = {
        run_id: bool((groups or {}).get("induction", {}).get("no_match")) for run_id, groups in runs["groups"].items()
    }
    return rows.assign(run=rows["run_id"].map(runs["run"]), no_match=rows["run_id"].map(without))


def draw(rows: pd.DataFrame, title: str) -> Figure:
    """Nats above, shares below, a column a quantity, a line a run."""
    several = rows[rows.groupby("run_id")["step"].transform("nunique") > 1]
    shown = several[several["run_id"].isin(several["run_id"].unique()[:MOST_RUNS])]
    colours = notation.colours(shown["run"].tolist())
    figure, axes = plt.subplots(2, 2, figsize=(9.4, 6.0), layout="constrained", sharex=True)
    for column, quantity in enumerate(QUANTITIES):
        part = shown[(shown["quantity"] == quantity) & (shown["tokens"] > 0)]
        for name, own in part.groupby("run", sort=False):
            _line(axes[0, column], own, "lost", "lost_stderr", colours[name])
            _line(axes[1, column], own, "share", "share_stderr", colours[name])
            if own["draws"].max() > 0:
                axes[0, column].fill_between(
                    own["tokens"], own["matched_low"], own["matched_high"], color=QUIET, alpha=0.3, lw=0
                )
                axes[1, column].plot(own["tokens"], own["matched_share"], color=QUIET, lw=1, ls="--")
        axes[0, column].set_title(TITLES[quantity], fontsize=9)
        for panel in axes[:, column]:
            panel.axhline(0, color=QUIET, lw=0.8)
        axes[1, column].axhline(1, color=QUIET, lw=0.8, ls=":")
        notation.token_axis(axes[1, column])
    axes[0, 0].set_ylabel("lost without them (nats)")
    axes[1, 0].set_ylabel("share lost")
    for panel in axes[1]:
        panel.set_ylim(-0.25, 1.5)
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


def _line(axes: Axes, own: pd.DataFrame, value: str, stderr: str, colour: str) -> None:
    own = own.sort_values("tokens")
    axes.plot(own["tokens"], own[value], color=colour, lw=1.3)
    low, high = own[value] - 2 * own[stderr], own[value] + 2 * own[stderr]
    axes.fill_between(own["tokens"], low, high, color=colour, alpha=0.2, lw=0)


def summary(rows: pd.DataFrame) -> str:
    """Each run's share at its end, in a line."""
    lines = []
    for row in at_the_end(rows).sort_values(["run", "quantity"]).itertuples():
        beside = f"{row.matched:+.2f} without {row.draws} matched sets" if row.draws else "no matched set"
        share = f"{row.share:.0%} ± {2 * row.share_stderr:.0%} of" if pd.notna(row.share) else "of less than 0.1 nat of"
        lines.append(f"{row.run}: {row.lost:+.2f} nats lost, {share} {TITLES[row.quantity]}; {beside}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Draw a study or run; returns the path of the PNG."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="a study or a single run")
    parser.add_argument("--kind", default=KIND, choices=["pattern_preserving", "zero", "mean"], help="of ablation")
    parser.add_argument("--out", type=Path, help="where to write (default: STUDY/analysis)")
    chosen = parser.parse_args(arguments)
    out: Path = chosen.out or chosen.study / "analysis"
    notation.use_style()
    rows = gather(load(chosen.study), chosen.kind)
    if rows.empty:
        parser.error(f"{chosen.study}: no groups were ablated; bump measure {chosen.study} --measures group_ablation")
    out.mkdir(parents=True, exist_ok=True)
    rows.to_csv(out / "causal_share.csv", index=False)
    print(summary(rows))
    if rows.groupby("run_id")["step"].nunique().max() < 2:
        print(f"wrote {out / 'causal_share.csv'}; no run has more than one snapshot to draw")
        return out / "causal_share.csv"
    figure = draw(rows, f"{chosen.study.resolve().name}: lost without the induction heads ({chosen.kind})")
    notation.save(figure, out / "causal_share")
    print(f"wrote {out / 'causal_share.png'}, .svg and .csv")
    return out / "causal_share.png"


if __name__ == "__main__":
    main()
