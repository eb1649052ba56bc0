"""When the bump comes in each cell of a study, and what each treatment does to that time.

    python analysis/treatments.py runs/smeared_keys [--event icl] [--reference CELL] [--out DIR]

Above: a dot a run, with the interval of its time, and the geometric mean of its cell; a triangle where a run had no
bump by then, or had it from the start, pointing to where its time lies. Below: the ratio of times to the cell of
reference, with its 95 % interval and the exact test. Dotted is no such interval but the range of ratios of pairs of
runs, where of some only a bound is known. By default a cell with smeared keys or clamps is compared with the same
without them, and others with the plainest cell. Writes treatments.png, .svg, treatments.csv (a row a comparison) and
treatments_times.csv (a row a run) to DIR, by default to `analysis/` in the study, which must have been located (`bump
locate STUDY`).
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import command
import notation
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from times_by_cell import QUIET, by_cell, in_order, times_by_cell

from induction_bump.linking.treatments import Effect, effects
from induction_bump.locate.events import EVENTS
from induction_bump.records.load import Records


def gather(records: Records, event: str, reference: str | None) -> tuple[pd.DataFrame, list[Effect]]:
    """Rows of `event_times` with the run's cell and seed, and the effect of each treatment."""
    rows, sorted_into = by_cell(records, event)
    return rows, effects(rows.drop(columns=["cell", "seed"]), sorted_into, reference)


def as_table(found: Sequence[Effect]) -> pd.DataFrame:
    """One row a comparison, with the test's fields in columns of their own."""
    rows = []
    for effect in found:
        row = asdict(effect)
        test = row.pop("test") or dict.fromkeys(("p", "smallest", "exact", "statistic"))
        rows.append(row | {"direction": effect.direction} | test)
    return pd.DataFrame(rows)


def draw(rows: pd.DataFrame, found: Sequence[Effect], title: str) -> Figure:
    """Times above, ratios below."""
    order = in_order(rows)
    heights = [0.7 + 0.42 * len(order), 0.7 + 0.42 * max(len(found), 1)]
    figure, (above, below) = plt.subplots(
        2, figsize=(7.4, sum(heights) + 1.0), layout="constrained", gridspec_kw={"height_ratios": heights}
    )
    times_by_cell(above, rows, order)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    _ratios(below, sorted(found, key=lambda effect: order.index(effect.cell)))
    return figure


def _ratios(axes: Axes, found: Sequence[Effect]) -> None:
    """A line an effect, an arrow where its interval has no end, and in words what the test says."""
    axes.axvline(1, color=QUIET, lw=0.8)
    bounds = [1.0]
    for place, effect in enumerate(found):
        known = np.isfinite(effect.ratio) and effect.ratio > 0
        bounds += [v for v in (effect.ratio_low, effect.ratio_high, effect.ratio) if np.isfinite(v) and v > 0]
        if known:
            axes.scatter(effect.ratio, place, s=24, color=notation.COLOURS[0], zorder=3)
    left, right = min(bounds) / 1.6, max(bounds) * 1.6
    for place, effect in enumerate(found):
        low, high = max(effect.ratio_low, left), min(effect.ratio_high, right)
        if np.isfinite(low) and np.isfinite(high):
            style = "-" if effect.interval == "95 %" else ":"
            axes.hlines(place, low, high, color=notation.COLOURS[0], lw=1.6, ls=style)
        if not effect.ratio_high < right and effect.test:  # an interval without end leaves by the frame
            axes.scatter(right, place, marker=">", s=22, color=notation.COLOURS[0], clip_on=False, zorder=3)
        if not effect.ratio_low > left and effect.test:
            axes.scatter(left, place, marker="<", s=22, color=notation.COLOURS[0], clip_on=False, zorder=3)
        words = _words(effect).replace("; ", ";\n")
        axes.annotate(words, (1.03, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    axes.set_yticks(range(len(found)), [f"{effect.cell}\nagainst {effect.reference}" for effect in found], fontsize=8)
    axes.set_ylim(max(len(found), 1) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    ticks = [tick for tick in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if left <= tick <= right]
    axes.set_xticks(ticks if len(ticks) > 1 else [left * 1.05, 1, right / 1.05])
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
    axes.grid(False, axis="y")
    lines = {"95 %": "line: 95 % interval", "range of pairs": "dotted: range of pairs of runs"}
    shown = [words for what, words in lines.items() if any(effect.interval == what for effect in found)]
    axes.set_xlabel("\n".join(["ratio of times (left of 1: earlier)", ", ".join(shown)]))


def _words(effect: Effect) -> str:
    if effect.test is None:
        return effect.direction
    words = f"{effect.direction}, p = {effect.p_holm:.2g}"
    if not effect.could_tell:
        return f"{words}; {effect.fewest} runs a cell are the least to tell"
    if effect.direction == "cannot tell" and effect.seeds_needed:
        return f"{words}; {effect.seeds_needed} seeds to tell, were this the true ratio"
    return words


def main(arguments: Sequence[str] | None = None) -> Path:
    """Draw a study; returns the path of the PNG."""
    parser = command.parser(__doc__, "a study")
    parser.add_argument("--event", default="icl", choices=EVENTS, help="whose time (default: icl)")
    parser.add_argument("--reference", help="the cell that all others are compared with")
    chosen = parser.parse_args(arguments)
    out: Path = chosen.out or chosen.study / "analysis"
    notation.use_style()
    try:
        rows, found = gather(command.load_located(chosen.study), chosen.event, chosen.reference)
    except ValueError as error:
        parser.error(str(error))
    figure = draw(rows, found, f"{chosen.study.resolve().name}: time of the bump ({chosen.event})")
    out.mkdir(parents=True, exist_ok=True)
    rows.to_csv(out / "treatments_times.csv", index=False)
    as_table(found).to_csv(out / "treatments.csv", index=False)
    notation.save(figure, out / "treatments")
    for effect in found:
        print(f"{effect.cell} against {effect.reference}: {_ratio_in_words(effect)}; {_words(effect)}")
    print(f"wrote {out / 'treatments.png'}, .svg and .csv")
    return out / "treatments.png"


def _ratio_in_words(effect: Effect) -> str:
    if np.isnan(effect.ratio) or (effect.ratio_low == 0 and np.isinf(effect.ratio_high)):
        return "no ratio"
    if not 0 < effect.ratio < np.inf:
        side = f"at least {effect.ratio_low:.2f}" if effect.ratio > 1 else f"at most {effect.ratio_high:.2f}"
        return f"{side} times the tokens" if effect.test else "no ratio"
    words = f"{effect.ratio:.2f} times the tokens"
    if effect.interval:
        words += f" [{effect.ratio_low:.2f}, {effect.ratio_high:.2f}] ({effect.interval})"
    return words if np.isnan(effect.d) else f"{words}, d = {effect.d:.1f}"


if __name__ == "__main__":
    command.run(main)
