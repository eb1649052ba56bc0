"""The model-analysis table of Olsson et al. 2022: ten panels a run, so that what changes together is seen together.

    python analysis/model_analysis.py runs/quickstart [--out DIR] [--scale log] [--run NAME ...]

Writes model_analysis-1.png and .svg (three runs a page), and model_analysis.csv with what the panels show, to DIR, by
default to `analysis/` in the study. Panels are over training tokens, with the located change shaded:

- held-out loss; loss by position at nine moments; the slope of the loss in ln(tokens), d loss / d ln tokens; the slope
  of the loss in ln(position), d loss / d ln k, at every position and moment; the ICL score;
- by head: prefix matching and QK trace; the first two principal components of the token losses; the before-and-after
  vector, which is the part of a pattern-preserving ablation along the change's direction in the token losses, and what
  the same ablation does to the ICL score.

What a run has no records of is said in its panel. `bump measure STUDY` takes what can be taken.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import command
import head_table
import measured_run
import notation
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from measured_run import QUIET, MeasuredRun, MissingError, head_lines
from slopes import slope_in_log, slopes_by_position
from token_components import principal_components

from induction_bump.locate.formats import format_tokens
from induction_bump.locate.run import find
from induction_bump.records.load import load

RUNS_PER_PAGE, COLUMNS, MOMENTS = 3, 5, 9
REASON_WIDTH = 28
"""Characters that fit into a panel."""
BLUE, RED = notation.COLOURS[:2]
_COLUMNS = ["panel", "step", "tokens", "layer", "head", "position", "name", "value", "stderr"]


def loss(run: MeasuredRun, axes: Axes) -> pd.DataFrame:
    """Held-out loss."""
    rows = run.read("scalars", name="loss")
    measured_run.line(axes, rows, BLUE)
    run.time_axis(axes)
    return rows


def loss_by_position(run: MeasuredRun, axes: Axes) -> pd.DataFrame:
    """Loss by position at moments that are evenly spaced in ln(tokens), early ones light."""
    rows = run.read("positions").rename(columns={"loss": "value"})
    moments = rows.loc[rows["tokens"] > 0, "tokens"].unique()
    if not len(moments):
        raise MissingError("nothing was measured after step 0")
    asked = np.geomspace(moments.min(), moments.max(), MOMENTS)
    shown = np.unique(moments[np.abs(np.log(moments[:, None] / asked)).argmin(axis=0)])
    colours = plt.get_cmap("viridis_r")(np.linspace(0.05, 1, len(shown)))
    for place, (tokens, colour) in enumerate(zip(shown, colours, strict=True)):
        own = rows[rows["tokens"] == tokens]
        ends = place in (0, len(shown) - 1)
        axes.plot(own["position"], own["value"], color=colour, lw=0.9, label=format_tokens(tokens) if ends else None)
    axes.set_xscale("log")
    axes.set_xlabel("position k")
    axes.legend(fontsize="small", title="tokens", title_fontsize="small", loc="lower left")
    return rows[rows["tokens"].isin(shown)].assign(name="loss")


def loss_slope(run: MeasuredRun, axes: Axes) -> pd.DataFrame:
    """d loss / d ln tokens."""
    rows = run.read("scalars", name="loss")
    rows = rows[rows["tokens"] > 0]
    if len(rows) < 2:
        raise MissingError("a slope needs two snapshots after step 0")
    rows = rows.assign(name="d loss / d ln tokens", value=slope_in_log(rows["tokens"], rows["value"]), stderr=np.nan)
    measured_run.line(axes, rows, BLUE)
    axes.axhline(0, color=QUIET, lw=0.8)
    run.time_axis(axes)
    return rows


def position_slope(run: MeasuredRun, axes: Axes) -> pd.DataFrame:
    """d loss / d ln k by position and moment."""
    rows = slopes_by_position(run.read("positions"))
    grid = rows.pivot(index="position", columns="tokens", values="value")
    most = float(np.nanquantile(np.abs(grid.to_numpy()), 0.99))
    shown = grid.loc[:, grid.columns > 0] if run.scale == "log" else grid
    if shown.shape[1] < 2:
        raise MissingError("there is one snapshot")
    image = axes.pcolormesh(shown.columns, shown.index, shown, cmap="RdBu_r", vmin=-most, vmax=most, rasterized=True)
    axes.set_yscale("log")
    axes.set_ylabel("position k")
    axes.grid(visible=False)
    run.time_axis(axes)
    bar = axes.figure.colorbar(image, ax=axes, aspect=12, pad=0.02)
    bar.ax.tick_params(labelsize="x-small", length=2)
    return rows.assign(name="d loss / d ln k")


def icl_score(run: MeasuredRun, axes: Axes) -> pd.DataFrame:
    """The ICL score as a difference of windows."""
    rows = run.read("scalars", name="icl_window_score")
    measured_run.line(axes, rows, BLUE)
    axes.axhline(0, color=QUIET, lw=0.8)
    run.time_axis(axes)
    return rows


def head_scores(measure: str) -> Callable[[MeasuredRun, Axes], pd.DataFrame]:
    """A panel of one measure of all heads."""

    def panel(run: MeasuredRun, axes: Axes) -> pd.DataFrame:
        rows = run.read("heads", measure=measure)
        head_lines(axes, rows)
        axes.axhline(0, color=QUIET, lw=0.8)
        run.time_axis(axes)
        return rows.rename(columns={"measure": "name"})

    return panel


def components(run: MeasuredRun, axes: Axes) -> pd.DataFrame:
    """Where the token-loss vectors go in the plane of their first two principal components."""
    rows = run.read("tokens")
    wide = rows.pivot(index=["step", "tokens"], columns="example", values="loss")
    places, shares = principal_components(wide.to_numpy(float))
    tokens = wide.index.get_level_values("tokens").to_numpy()
    low, high = run.bump or (np.inf, -np.inf)
    inside = (tokens >= low) & (tokens <= high)
    if len(places) > notation.ALONE:
        axes.plot(*places.T, color=QUIET, lw=0.8)
    axes.scatter(*places[~inside].T, s=7, color=BLUE, zorder=3)
    axes.scatter(*places[inside].T, s=14, color=RED, zorder=3)
    axes.margins(0.12)
    axes.annotate("start", places[0], fontsize="small", xytext=(3, 3), textcoords="offset points")
    axes.set_xlabel(f"first component, {shares[0]:.0%}")
    axes.set_ylabel(f"second, {shares[1]:.0%}")
    parts = [
        wide.index.to_frame(index=False).assign(name=name, value=places[:, i])
        for i, name in enumerate(("first", "second"))
    ]
    return pd.concat(parts)


def before_and_after(run: MeasuredRun, axes: Axes) -> pd.DataFrame:
    """Attribution of each head: nats along the direction in which the change moved the token losses."""
    if run.bump is None:
        raise MissingError("no change was located")
    ablated = run.read("ablated_tokens", kind="pattern_preserving")
    rows = head_table.attribution_over_training(head_table.token_losses(run.records, run.run_id), ablated, *run.bump)
    if rows.empty:
        raise MissingError("no ablations apart from the change's two ends")
    head_lines(axes, rows.assign(at=[f"L{n}H{h}" for n, h in zip(rows["layer"], rows["head"], strict=True)]))
    axes.axhline(0, color=QUIET, lw=0.8)
    run.time_axis(axes)
    return rows.assign(name="attribution")


def ablated_icl(run: MeasuredRun, axes: Axes) -> pd.DataFrame:
    """What each head's pattern-preserving ablation adds to the ICL score."""
    rows = run.read("ablations", kind="pattern_preserving", quantity="icl_window_score")
    rows = rows[rows["layer"].notna()]
    if rows.empty:
        raise MissingError("the table ablations has no single heads")
    head_lines(axes, rows)
    axes.axhline(0, color=QUIET, lw=0.8)
    run.time_axis(axes)
    return rows.rename(columns={"quantity": "name"})


PANELS: Mapping[str, tuple[Callable[[MeasuredRun, Axes], pd.DataFrame], str, str]] = {
    "loss": (loss, "held-out loss (nats)", "loss"),
    "loss_by_position": (loss_by_position, "loss by position (nats)", "loss_by_position"),
    "loss_slope": (loss_slope, "d loss / d ln tokens", "loss"),
    "position_slope": (position_slope, "d loss / d ln k, at each k", "loss_by_position"),
    "icl_score": (icl_score, "ICL score, windows (nats)", "icl_window_score"),
    "prefix_matching": (head_scores("prefix_matching"), "prefix matching", "prefix_matching"),
    "qk_trace": (head_scores("qk_trace"), "QK trace", "qk_trace"),
    "components": (components, "token losses", "token_losses"),
    "before_and_after": (before_and_after, "ablation → before-and-after", "pattern_preserving_ablation"),
    "ablated_icl": (ablated_icl, "ablation → ICL score (nats)", "pattern_preserving_ablation"),
}
"""Name → how it is drawn, its title, and the measure it needs."""


def draw(runs: Sequence[MeasuredRun], titles: Sequence[str]) -> tuple[Figure, pd.DataFrame]:
    """A page: two rows of panels a run. The rows of all panels come with it."""
    figure = plt.figure(figsize=(13, 4.4 * len(runs) + 0.3), layout="constrained")
    blocks = np.atleast_1d(figure.subfigures(len(runs), 1, hspace=0.04))
    parts = []
    for run, title, block in zip(runs, titles, blocks, strict=True):
        block.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize="large")
        for axes, (name, (panel, heading, measure)) in zip(
            block.subplots(-(-len(PANELS) // COLUMNS), COLUMNS).flat, PANELS.items(), strict=True
        ):
            try:
                parts.append(panel(run, axes).assign(panel=name, run_id=run.run_id, run=run.directory.name))
            except MissingError as error:
                notation.say(axes, run.info.not_applicable.get(measure, str(error)), REASON_WIDTH)
            axes.set_title(heading, loc="left", fontsize="medium")
    layers = {layer for part in parts if "layer" in part for layer in part["layer"].dropna().astype(int)}
    if layers:
        figure.legend(handles=measured_run.of_layers(layers), loc="outside lower center", ncols=len(layers))
    return figure, pd.concat(parts).reindex(columns=["run_id", "run", *_COLUMNS])


def main(arguments: Sequence[str] | None = None) -> list[Path]:
    """Draw a study; returns the paths of the PNGs."""
    parser = command.parser(__doc__, "a study or a single run")
    parser.add_argument("--scale", choices=["linear", "log"], default="linear", help="scale of the token axis")
    parser.add_argument("--run", nargs="+", help="only these runs, by directory name or run_id; all by default")
    chosen = parser.parse_args(arguments)
    out: Path = chosen.out or chosen.study / "analysis"
    notation.use_style()
    records, located = load(chosen.study), find(chosen.study)
    labels = notation.label_runs(records.runs)
    runs = [
        MeasuredRun(records, located, run_id, chosen.scale)
        for run_id, name in records.runs[["run_id", "run"]].itertuples(index=False)
        if not chosen.run or {run_id, name} & set(chosen.run)
    ]
    if not runs:
        parser.error(f"--run: none of {', '.join(chosen.run)} is in {chosen.study}")
    out.mkdir(parents=True, exist_ok=True)
    tables, pages = [], []
    for first in range(0, len(runs), RUNS_PER_PAGE):
        page = runs[first : first + RUNS_PER_PAGE]
        titles = [f"{labels[run.run_id]}: {run.directory.name}" for run in page]
        figure, rows = draw(page, titles)
        pages.append(notation.save(figure, out / f"model_analysis-{1 + first // RUNS_PER_PAGE}"))
        tables.append(rows)
    pd.concat(tables).to_csv(out / "model_analysis.csv", index=False, float_format="%.6g")
    print(f"wrote {len(pages)} pages and model_analysis.csv to {out}")
    return pages


if __name__ == "__main__":
    command.run(main)
