"""How quantities, runs and axes are written, so that one symbol means one thing in every figure."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

LABELS = {
    "tokens": "training tokens",
    "loss": "held-out loss (nats)",
    "icl_score": "ICL score (nats)",
    "icl_window_score": "ICL score,\nwindows (nats)",
    "ordered_copy_advantage": "ordered copy\nadvantage (nats)",
    "prefix_matching": "prefix matching,\nbest head",
    "previous_token": "previous token,\nbest head",
}
"""Quantity → axis label."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, in an order that keeps neighbours apart for all kinds of colour vision."""

ALONE = 2
"""Measurements that are not joined: a line between two would tell of a way that nobody has seen."""
_MARKED = 8
"""Measurements up to which each is marked on its line."""
_FEWEST_TICKS = 3
_NUMBERS = ("no layer", "one layer", "two layers", "three layers", "four layers")

STYLE = {
    "figure.dpi": 150,
    "savefig.dpi": 200,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
}


def use_style() -> None:
    """Draw into files, in the project's style."""
    matplotlib.use("Agg")
    matplotlib.rcParams.update(STYLE)


def curve(
    axes: Axes,
    x: ArrayLike,
    y: ArrayLike,
    edges: tuple[ArrayLike, ArrayLike] | None,
    colour: str,
    label: str | None = None,
    **style: Any,
) -> None:
    """A quantity over moments of training, with the lower and upper edge of its band.

    A line; with marks where there are few measurements, and marks alone, with bars, where there are at most ALONE.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    measured = np.isfinite(y)
    count = int(measured.sum())
    if edges is not None:
        band(axes, x, *edges, colour)
    if count <= ALONE:
        style |= {"linestyle": "", "marker": "o", "markersize": 4}
    elif count <= _MARKED:
        style |= {"marker": "o", "markersize": 3}
    axes.plot(x[measured], y[measured], color=colour, label=label, **style)


def band(axes: Axes, x: ArrayLike, low: ArrayLike, high: ArrayLike, colour: str, alpha: float = 0.2) -> None:
    """What lies between two edges over moments of training; a bar at each where they are at most ALONE."""
    x, low, high = (np.asarray(values, float) for values in (x, low, high))
    measured = np.isfinite(low)
    if measured.sum() <= ALONE:
        axes.vlines(x[measured], low[measured], high[measured], color=colour, lw=1.2, alpha=min(1.0, 3 * alpha))
    else:
        axes.fill_between(x, low, high, color=colour, alpha=alpha, lw=0)


def say(axes: Axes, reason: str, width: int = 34) -> None:
    """Write why there is nothing in a panel, and take its frame away."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    lines = textwrap.fill(reason, width, break_long_words=False, break_on_hyphens=False)
    axes.text(0.5, 0.5, lines, transform=axes.transAxes, ha="center", va="center", fontsize="small", color="#555555")


def save(figure: Figure, path: Path) -> Path:
    """Write `path`.png and .svg and forget the figure; returns the path of the PNG. `path` has no suffix."""
    for suffix in (".png", ".svg"):
        figure.savefig(path.with_name(path.name + suffix))
        figure.set_layout_engine("none")  # what was laid out once, which takes half of the time, stays where it is
    plt.close(figure)
    return path.with_name(path.name + ".png")


def model_label(run: Mapping[str, object]) -> str:
    """A run's model in words, from its row of `records.runs`: `one layer, smeared keys`."""
    sublayers = str(run["model.sublayers"])
    attention = sublayers.count("s")
    label = _NUMBERS[attention] if attention < len(_NUMBERS) else f"{attention} layers"
    if "f" in sublayers:
        label += f" with MLPs ({sublayers})"
    return f"{label}, smeared keys" if run.get("model.smeared_keys") and attention else label


def label_runs(runs: pd.DataFrame) -> pd.Series:
    """run_id → label. Runs of one model share it; a study of a single model tells its runs apart by their names."""
    labels = pd.Series([model_label(row) for row in runs.to_dict("records")], index=runs["run_id"])
    return labels if labels.nunique() > 1 or len(labels) == 1 else runs.set_index("run_id")["run"]


def colours(labels: Sequence[str]) -> dict[str, str]:
    """Label → colour, in order of first appearance."""
    return {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(dict.fromkeys(labels))}


def token_axis(axes: Axes, scale: str = "log") -> None:
    """Make the x axis one of training tokens, with units at the ticks."""
    axes.set_xscale(scale)
    if scale == "log":
        token_ticks(axes.xaxis)
    axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    axes.set_xlabel(LABELS["tokens"])


class _LogTokens(Locator):
    """Ticks at powers of ten, at 1, 2 and 5 times those where too few of them are in sight, else evenly spaced."""

    def __call__(self) -> Sequence[float]:
        assert self.axis
        return self.tick_values(*self.axis.get_view_interval())

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        """Where the ticks are on an axis from `vmin` to `vmax`."""
        for multiples in ((1.0,), (1.0, 2.0, 5.0)):
            ticks = LogLocator(subs=multiples).tick_values(vmin, vmax)
            if sum(vmin <= tick <= vmax for tick in ticks) >= _FEWEST_TICKS:
                return ticks
        return MaxNLocator(5).tick_values(vmin, vmax)


def token_ticks(axis: Axis) -> None:
    """Write the ticks of a logarithmic axis as `token_axis` does, on either axis of a figure."""
    axis.set_major_locator(_LogTokens())
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(_tick))


def _tick(tokens: float, _: int) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:g}{unit}"
    return f"{tokens:g}"
