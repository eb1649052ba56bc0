"""What a run's heads attend to, and what is read from their weights."""

from collections.abc import Mapping

import notation
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from measured_run import (
    QUIET,
    MeasuredRun,
    by,
    head_lines,
    legend_below,
    line,
    of_layers,
    panels,
    titled,
)

SCORES = ("prefix_matching", "previous_token", "first_token", "duplicate_token", "prefix_matching_off_by_one")
NULLS = ("prefix_matching", "previous_token")
DASHED = {"color": "#000000", "linewidth": 0.9, "linestyle": (0, (4, 3))}
DOTTED = {"color": "#000000", "linewidth": 0.9, "linestyle": ":"}
_HEAD = ["run_id", "step", "tokens", "at", "measure", "value", "stderr"]


def attention(run: MeasuredRun) -> tuple[Figure, pd.DataFrame]:
    """Scores of attention patterns by head, with the level that untrained models reach."""
    rows = run.read("heads", measure=list(SCORES))
    null = run.read("scalars", name=[f"null99/{name}" for name in NULLS]).set_index("name")["value"]
    figure, axes = panels(2, 3, 1.9, sharex=True)
    for place, (panel, name) in enumerate(zip(axes.flat, SCORES, strict=False)):
        head_lines(panel, rows[rows["measure"] == name])
        if name in NULLS:
            panel.axhline(null[f"null99/{name}"], **DASHED)
        titled(panel, name, "attention" if place % 3 == 0 else "")
        panel.set_ylim(0, 1.02)
        run.time_axis(panel, labelled=place > 1)
    axes[0, 2].tick_params(labelbottom=True)
    axes[1, 2].axis("off")
    null_line = plt.Line2D([], [], label="null99", **DASHED)
    axes[1, 2].legend(handles=[*of_layers(rows["layer"]), null_line], loc="center left")
    return figure, rows[_HEAD]


def copying(run: MeasuredRun) -> tuple[Figure, pd.DataFrame]:
    """Copying read from the weights, and from what heads add to the logits, with its chance."""
    rows = run.read("heads", measure=["copying_eigenvalue", "copying_logit"])
    chance = run.read("scalars", name="copying_logit_chance")["value"].iloc[0]
    figure, ((weights, logits),) = panels(1, 2)
    head_lines(weights, rows[rows["measure"] == "copying_eigenvalue"])
    head_lines(logits, rows[rows["measure"] == "copying_logit"], chance)
    weights.axhline(0, color=QUIET, lw=0.8)
    logits.axhline(chance, **DASHED)
    weights.set_ylim(-1.05, 1.05)
    titled(weights, "copying_eigenvalue (−1 … 1)")
    titled(logits, "copying_logit (−1 … 3)")
    for panel in (weights, logits):
        run.time_axis(panel)
    level = plt.Line2D([], [], label=f"chance, {chance:.2f}".replace("-", "−"), **DASHED)
    legend_below(figure, [*of_layers(rows["layer"]), level])
    return figure, rows[_HEAD]


def corner(run: MeasuredRun) -> tuple[Figure, pd.DataFrame]:
    """Copying against matching at the start, before and after the bump; heads without an earlier one are ticks."""
    rows = run.read("heads", measure=["copying_eigenvalue", "qk_eigenvalue"])
    attention = run.read("heads", measure="prefix_matching").set_index(["step", "at"])["value"]
    wide = rows.pivot(index=["step", "tokens", "layer", "head", "at"], columns="measure", values="value").reset_index()
    wide["prefix_matching"] = attention.reindex(pd.MultiIndex.from_frame(wide[["step", "at"]])).to_numpy()
    before, after = run.before_and_after(wide)
    moments = {int(wide["step"].min()): "at the start"}
    moments |= {before: "before the bump", after: "after the bump"} if run.bump else {after: "at the end"}
    figure, axes = panels(1, len(moments), 2.3, sharex=True, sharey=True)
    later = list(dict.fromkeys(wide.loc[wide["qk_eigenvalue"].notna(), "at"]))
    colours = notation.colours(later)
    for panel, (step, when) in zip(axes[0], moments.items(), strict=True):
        panel.axhline(0, color=QUIET, lw=0.8)
        panel.axvline(0, color=QUIET, lw=0.8)
        _heads_in_plane(panel, wide[wide["step"] == step], colours)
        panel.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), xlabel="copying_eigenvalue")
        titled(panel, when)
    axes[0, 0].set_ylabel("qk_eigenvalue")
    dot = {"linestyle": "", "marker": "o", "mec": "none"}
    handles = [plt.Line2D([], [], color=colour, label=name, **dot) for name, colour in colours.items()]
    tick = plt.Line2D([], [], linestyle="", marker="|", color=QUIET, markersize=9, label="no earlier head")
    legend_below(figure, [*handles[: len(notation.COLOURS)], tick])
    kept = wide[wide["step"].isin(moments)].assign(run_id=run.run_id)
    return figure, kept[["run_id", "step", "tokens", "at", "copying_eigenvalue", "qk_eigenvalue", "prefix_matching"]]


def _heads_in_plane(axes: Axes, heads: pd.DataFrame, colours: Mapping[str, str]) -> None:
    """A dot a head, its area growing with prefix matching."""
    for row in heads.itertuples():
        if np.isnan(row.qk_eigenvalue):
            axes.plot([row.copying_eigenvalue], [-1.05], "|", color=QUIET, markersize=9)
        else:
            size = 16 + 120 * float(np.nan_to_num(row.prefix_matching))
            axes.scatter(row.copying_eigenvalue, row.qk_eigenvalue, s=size, color=colours[row.at], alpha=0.7, lw=0)


def qk_trace(run: MeasuredRun) -> tuple[Figure, pd.DataFrame]:
    """Traces of the matching term, with the mean rotation and at offset 0 where positions are rotary."""
    rows = run.read("heads", measure="qk_trace")
    beside = "qk_trace_offset0" if run.model["positions"] == "rotary" else "qk_trace_raw"
    rows = pd.concat([rows, run.read("heads", measure=beside)])
    labels = ("qk_trace", beside)
    figure, axes = panels(1, 2)
    for panel, label in zip(axes[0], labels, strict=True):
        head_lines(panel, rows[rows["measure"] == label])
        panel.axhline(0, color=QUIET, lw=0.8)
        titled(panel, label, "up to the norms' scale" if label == "qk_trace" else "")
        run.time_axis(panel)
    legend_below(figure, of_layers(rows["layer"]))
    return figure, rows[_HEAD]


def smear(run: MeasuredRun) -> tuple[Figure, pd.DataFrame]:
    """What keys keep of their own position, the shifted key's trace, and the attention that comes of it."""
    labels = ("smear", "qk_trace_shifted_key", "prefix_matching")
    rows = run.read("heads", measure=list(labels))
    figure, axes = panels(1, 3)
    names = list(dict.fromkeys(rows.sort_values(["layer", "head"])["at"]))
    colours = notation.colours(names)
    for panel, label in zip(axes[0], labels, strict=True):
        for (name,), own in by(rows[rows["measure"] == label], "at").items():
            line(panel, own, colours[str(name)], linewidth=1.2)
        titled(panel, label)
        run.time_axis(panel)
    start = rows[rows["measure"] == "smear"]["value"].iloc[0]
    axes[0, 0].axhline(start, **DOTTED)
    axes[0, 0].set_ylim(0, 1.02)
    axes[0, 1].axhline(0, color=QUIET, lw=0.8)
    axes[0, 2].set_ylim(0, 1.02)
    handles = [plt.Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    handles.append(plt.Line2D([], [], label="initial smear", **DOTTED))
    legend_below(figure, handles)
    return figure, rows[_HEAD]


def composition(run: MeasuredRun) -> tuple[Figure, pd.DataFrame]:
    """Composition of all pairs over training, above; all pairs at the end, below."""
    rows = run.read("head_pairs", kind=["q", "k", "v"])
    for side in ("in", "out"):
        rows[side] = [f"L{n}H{h}" for n, h in zip(rows[f"layer_{side}"], rows[f"head_{side}"], strict=True)]
    rows["stderr"] = np.nan
    last = rows[rows["step"] == rows["step"].max()]
    figure, axes = panels(2, 3, 2.2)
    largest = float(rows["value"].abs().max())
    for column, kind in enumerate("qkv"):
        _pairs_over_time(axes[0, column], rows[rows["kind"] == kind])
        axes[0, column].axhline(0, color=QUIET, lw=0.8)
        axes[0, column].set_ylim(rows["value"].min() - 0.05 * largest, 1.2 * largest)
        titled(axes[0, column], f"composition_{kind}", "above random factors" if not column else "")
        run.time_axis(axes[0, column])
        image = _pairs(axes[1, column], last[last["kind"] == kind], largest)
        titled(axes[1, column], f"composition_{kind} at the end", "from" if not column else "")
    figure.colorbar(image, ax=axes[1], orientation="horizontal", shrink=0.5, aspect=40)
    return figure, rows[["run_id", "step", "tokens", "in", "out", "kind", "value", "baseline"]]


def _pairs_over_time(axes: Axes, rows: pd.DataFrame) -> None:
    pairs = by(rows, "in", "out")
    best = max(pairs, key=lambda pair: pairs[pair]["value"].iloc[-1])
    for pair, own in pairs.items():
        line(axes, own, notation.COLOURS[1] if pair == best else QUIET, linewidth=1.6 if pair == best else 0.8)
    end = pairs[best].iloc[-1]
    place = {"xytext": (-2, 4), "textcoords": "offset points", "ha": "right", "va": "bottom", "fontsize": "small"}
    colour = notation.COLOURS[1]
    axes.annotate("→".join(map(str, best)), (end["tokens"], end["value"]), color=colour, fontweight="bold", **place)


def _pairs(axes: Axes, rows: pd.DataFrame, largest: float) -> plt.cm.ScalarMappable:
    grid = rows.pivot(index="in", columns="out", values="value")
    image = axes.imshow(grid, cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto")
    axes.grid(False)
    axes.set_xticks(range(grid.shape[1]), grid.columns, fontsize="small")
    axes.set_yticks(range(grid.shape[0]), grid.index, fontsize="small")
    axes.set_xlabel("to")
    return image
