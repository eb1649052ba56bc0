"""The eigenvalue scatter and the path-order table of Elhage et al. 2021, before and after the bump.

    python analysis/eigenvalues_and_paths.py runs/quickstart [--out DIR]

Writes eigenvalues and path_orders, each as .png, .svg and .csv, to DIR, by default to `analysis/` in the study.
Models with two or more attention layers have a row of panels each, with all their runs. "Before" is the last snapshot
before the bump and "after" a run's last; a run in which no bump was located has its first snapshot in place of the
former. Where the measures were taken at fewer snapshots, the last of those up to then.

Eigenvalues: a dot a head that has an earlier layer, `copying_eigenvalue` against `qk_eigenvalue`, coloured by prefix
matching at that moment; other heads have no `qk_eigenvalue` and are ticks at the bottom. In Elhage et al.'s models
induction heads are in the (+, +) corner.

Path orders: the change of the loss that each order brings to those below it, order 0 against a uniform guess, ln V.
Beside it are Elhage et al.'s figures for their two-layer model, which are not comparable: another corpus, vocabulary
and size.
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
from measured_run import QUIET, MeasuredRun, MissingError

from induction_bump.locate.run import find
from induction_bump.records.load import load

MOMENTS = ("before", "after")
PUBLISHED = pd.DataFrame({"order": [0, 1, 2], "change": [-1.8, -5.2, -0.3]})
"""Elhage et al. 2021, term importance of a two-layer attention-only model, in nats."""
NO_EARLIER = -1.3
"""Where heads are drawn that have no earlier head to read."""
NOT_COMPARABLE = "not_comparable"
_NOT_BEFORE = "not measured before the bump: bump measure STUDY --measures {}"


def eigenvalues(run: MeasuredRun) -> pd.DataFrame:
    """Every head at both moments: both eigenvalue ratios, where it has them, and prefix matching."""
    names = ["copying_eigenvalue", "qk_eigenvalue", "prefix_matching"]
    rows = run.read("heads", measure=names)
    wide = rows.pivot(index=["step", "tokens", "layer", "head"], columns="measure", values="value").reset_index()
    return _at_both(run, wide.dropna(subset=["copying_eigenvalue"]))


def path_orders(run: MeasuredRun) -> pd.DataFrame:
    """Loss up to each order and the change that the order brings, in nats, at both moments."""
    rows = run.read("paths", how="up_to").sort_values(["step", "order"])
    rows = rows.rename(columns={"value": "loss_up_to"})[["step", "tokens", "order", "loss_up_to", "stderr"]]
    below = rows.groupby("step")["loss_up_to"].shift().fillna(np.log(run.info.vocab_size))
    return _at_both(run, rows.assign(change=rows["loss_up_to"] - below))


def _at_both(run: MeasuredRun, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the two moments, after that first; "before" is left out where nothing was measured up to then."""
    steps = dict(zip(MOMENTS, run.before_and_after(rows), strict=True))
    if run.bump and rows["tokens"].min() > run.bump[0]:
        del steps["before"]
    parts = [rows[rows["step"] == step].assign(when=when) for when, step in steps.items() if step >= 0]
    return pd.concat(parts).assign(run_id=run.run_id, run=run.directory.name)


def draw_eigenvalues(table: pd.DataFrame) -> Figure:
    """A row of panels a model: before and after."""
    figure, axes = _grid(table, sharex=True, sharey=True)
    for (label, when), panel in axes.items():
        own = table[(table["label"] == label) & (table["when"] == when)].sort_values("prefix_matching")
        if own.empty:
            notation.say(panel, _NOT_BEFORE.format("copying_eigenvalue,qk_eigenvalue"))
            continue
        panel.axhline(0, color=QUIET, lw=0.8)
        panel.axvline(0, color=QUIET, lw=0.8)
        colours = {"vmin": 0, "vmax": 1, "cmap": "viridis_r"}
        no_earlier = own[own["qk_eigenvalue"].isna()]
        place = (no_earlier["copying_eigenvalue"], np.full(len(no_earlier), NO_EARLIER))
        panel.scatter(*place, c=no_earlier["prefix_matching"], s=70, marker="|", **colours)
        place = (own["copying_eigenvalue"], own["qk_eigenvalue"])
        dots = panel.scatter(*place, c=own["prefix_matching"], s=26, alpha=0.85, lw=0, **colours)
        panel.set(xlim=(-1.08, 1.08), ylim=(NO_EARLIER - 0.1, 1.08), xlabel="copying_eigenvalue")
        panel.set_ylabel("qk_eigenvalue" if when == MOMENTS[0] else "")
        panel.set_yticks([NO_EARLIER, -1, -0.5, 0, 0.5, 1], ["none", "−1", "−0.5", "0", "0.5", "1"])
        panel.label_outer()
    figure.colorbar(dots, ax=list(axes.values()), label="prefix matching", aspect=30)
    return figure


def draw_path_orders(table: pd.DataFrame) -> Figure:
    """The same with bars over orders: the mean over runs, a dot a run."""
    figure, axes = _grid(table, sharey=True)
    for (model, when), panel in axes.items():
        own = table[(table["label"] == model) & (table["when"] == when)]
        if own.empty:
            notation.say(panel, _NOT_BEFORE.format("path_order"))
            continue
        mean = own.groupby("order")["change"].mean()
        panel.bar(mean.index, mean, 0.55, color=notation.COLOURS[0], alpha=0.35, label="mean of runs")
        panel.plot(own["order"], own["change"], "o", ms=3.5, color=notation.COLOURS[0], label="a run")
        if when == MOMENTS[1]:
            there = PUBLISHED[PUBLISHED["order"].isin(mean.index)]
            style = {"ms": 4, "mfc": "none", "color": notation.COLOURS[1]}
            label = "Elhage et al. 2021, two layers: not comparable"
            panel.plot(there["order"] + 0.38, there["change"], "D", label=label, **style)
        panel.axhline(0, color=QUIET, lw=0.8)
        panel.set_xticks(mean.index)
        panel.grid(visible=False, axis="x")
        panel.set_xlabel("order")
        panel.set_ylabel("change of the loss (nats)" if when == MOMENTS[0] else "")
    after = next(panel for (_, when), panel in axes.items() if when == MOMENTS[1])
    figure.legend(*after.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _grid(table: pd.DataFrame, **options: object) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """A row of panels a model, a column a moment."""
    labels = list(dict.fromkeys(table["label"]))
    size = (6.4, 2.7 * len(labels) + 0.4)
    figure, grid = plt.subplots(len(labels), len(MOMENTS), figsize=size, layout="constrained", squeeze=False, **options)
    axes = {(label, when): grid[i, j] for i, label in enumerate(labels) for j, when in enumerate(MOMENTS)}
    for (label, when), panel in axes.items():
        runs = table.loc[(table["label"] == label) & (table["when"] == when), "run_id"].nunique()
        counted = f"{runs} run" + ("" if runs == 1 else "s")
        panel.set_title(f"{label}\n{when} ({counted})", loc="left", fontsize="medium")
    return figure, axes


def with_published(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the published figures below it, marked as not comparable."""
    label = "Elhage et al. 2021, two layers"
    published = PUBLISHED.assign(label=label, when="after", comparison=NOT_COMPARABLE)
    return pd.concat([table.assign(comparison=""), published])


def main(arguments: Sequence[str] | None = None) -> list[Path]:
    """Draw a study; returns the paths of the PNGs."""
    parser = command.parser(__doc__, "a study or a single run")
    chosen = parser.parse_args(arguments)
    out: Path = chosen.out or chosen.study / "analysis"
    notation.use_style()
    records, located = load(chosen.study), find(chosen.study)
    models = records.runs.set_index("run_id").apply(notation.model_label, axis=1)
    deep = records.runs.loc[records.runs["model.sublayers"].astype(str).str.count("s") > 1, "run_id"]
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, gather, draw, finish in (
        ("eigenvalues", eigenvalues, draw_eigenvalues, lambda table: table),
        ("path_orders", path_orders, draw_path_orders, with_published),
    ):
        parts = []
        for run in (MeasuredRun(records, located, run_id) for run_id in deep):
            try:
                parts.append(gather(run).assign(label=models[run.run_id]))
            except MissingError as error:
                print(f"{run.directory.name}: not in {name}: {error}; bump measure {chosen.study} may take it")
        if not parts:
            print(f"without {name}.png: no run of {chosen.study} with two or more attention layers has it")
            continue
        table = pd.concat(parts).sort_values("label", kind="stable")
        first = ["label", "run_id", "run", "when", "step", "tokens"]
        finished = finish(table)
        order = first + [column for column in finished if column not in first]
        finished[order].to_csv(out / f"{name}.csv", index=False, float_format="%.6g")
        written.append(notation.save(draw(table), out / name))
        print(f"wrote {written[-1]}, .svg and .csv")
    return written


if __name__ == "__main__":
    command.run(main)
