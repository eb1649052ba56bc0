"""How many tokens the bump takes at each batch size and context, and the power law through them.

    python analysis/bump_law.py runs/batch_context [--event icl] [--out DIR]

ln t = a + Σ b_k ln x_k over what varies of batch size, context, learning rate and warm-up, fitted to brackets of events
or to placed changes with their errors; runs that ended without the bump, or had it from the start, are censored
(`linking/law.py`). Beside it 10^5.7 · √(batch · context), the law of Aoyama et al. 2025 for natural text. Left: time
against batch · context, with a triangle for a run of which only a bound is known, which points to where its time lies.
Right: the exponents with their 95 % intervals. Writes bump_law.png, .svg, bump_law.csv (a row an exponent) and
bump_law_runs.csv (a row a run) to DIR, by default to `analysis/` in the study, which must have been located
(`bump locate STUDY`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import command
import notation
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from times_by_cell import QUIET, by_cell, upper_bounds

from induction_bump.linking.expected import expected_tokens
from induction_bump.linking.law import NoFitError, PowerLaw, fit_power_law
from induction_bump.locate.events import EVENTS
from induction_bump.records.load import Records
from induction_bump.training.schedule import Duration

SETTINGS = {
    "batch": "training.batch_sequences",
    "context": "data.context",
    "learning rate": "training.learning_rate",
    "warm-up": "training.warmup",
}
"""Name in the law → where the config has it."""
A25 = {"intercept": np.log(expected_tokens(1, 1)), "batch": 0.5, "context": 0.5}


def gather(records: Records, event: str) -> tuple[pd.DataFrame, PowerLaw]:
    """A row a run with its time and settings, and the law. Raises NoFitError where the runs do not determine one."""
    rows, sorted_into = by_cell(records, event)
    rows = rows[rows["state"] != "undefined"].reset_index(drop=True)
    runs = records.runs.set_index("run_id").loc[rows["run_id"]]
    known = [name for name, key in SETTINGS.items() if key in runs]
    for name in known:
        rows[name] = _warmup(runs) if name == "warm-up" else runs[SETTINGS[name]].to_numpy(np.float64)
    varied = [name for name in known if rows[name].nunique() > 1]
    if not varied:
        raise NoFitError(f"none of {', '.join(SETTINGS)} varies here; what does: {', '.join(sorted_into.varied)}")
    return rows, fit_power_law(rows, {name: rows[name].to_numpy() for name in varied})


def _warmup(runs: pd.DataFrame) -> np.ndarray:
    """Steps of warm-up; in tokens it would follow from batch and context."""
    lengths = zip(runs["training.warmup"], runs["tokens_per_step"], strict=True)
    return np.array([float(Duration.parse(str(text)).steps(int(per_step))) for text, per_step in lengths])


def as_table(law: PowerLaw) -> pd.DataFrame:
    """One row a coefficient: name, value, low, high, stderr, and what Aoyama et al. 2025 have."""
    slopes = {"intercept": law.intercept, **law.exponents}
    rows = [(name, s.value, s.low, s.high, s.stderr, A25.get(name, np.nan)) for name, s in slopes.items()]
    return pd.DataFrame(rows, columns=["name", "value", "low", "high", "stderr", "aoyama_2025"])


def draw(rows: pd.DataFrame, law: PowerLaw, title: str) -> Figure:
    """Times with both laws, and the exponents."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9.0, 4.2), layout="constrained", gridspec_kw={"width_ratios": [1.6, 1]}
    )
    _times(left, rows, law)
    left.set_title(title, loc="left", fontweight="bold")
    _exponents(right, law)
    return figure


def _times(axes: Axes, rows: pd.DataFrame, law: PowerLaw) -> None:
    product, upper = rows["batch"] * rows["context"], upper_bounds(rows)
    contexts = sorted(rows["context"].unique())
    for place, context in enumerate(contexts):
        own = rows[rows["context"] == context]
        colour = notation.COLOURS[place % len(notation.COLOURS)]
        # runs of one setting stand beside each other, and those of different contexts with one product too
        beside = own.groupby("batch").cumcount() - own.groupby("batch")["batch"].transform("size").sub(1) / 2
        x = product[own.index] * np.exp(0.05 * beside + 0.05 * (place - (len(contexts) - 1) / 2))
        located, after, before = (own["state"] == state for state in ("located", "after", "before"))
        axes.vlines(x[located], own["low"][located], own["high"][located], color=colour, alpha=0.5, lw=1.4)
        axes.scatter(x[located], own["estimate"][located], s=12, color=colour, label=f"context {context:g}", zorder=3)
        bound: dict[str, Any] = {"s": 20, "color": colour, "facecolor": "white", "zorder": 3}
        axes.scatter(x[after], own["low"][after], marker="^", **bound)
        axes.scatter(x[before], upper[own.index][before], marker="v", **bound)
        if {"batch", "context"} <= law.exponents.keys():
            grid = np.geomspace(own["batch"].min(), own["batch"].max(), 20)
            others = {name: float(np.exp(np.log(rows[name]).mean())) for name in law.exponents}
            fitted = [law.predict(others | {"batch": b, "context": float(context)}) for b in grid]
            axes.plot(grid * context, fitted, color=colour, lw=1.2)
    ends = np.array([product.min(), product.max()], float)
    axes.plot(ends, np.exp(A25["intercept"]) * np.sqrt(ends), color=QUIET, ls="--", lw=1.2, label="A25, natural text")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("batch (sequences) · context (tokens)")
    axes.set_ylabel("training tokens to the bump")
    notation.token_ticks(axes.xaxis)
    notation.token_ticks(axes.yaxis)
    axes.legend(fontsize=8)


def _exponents(axes: Axes, law: PowerLaw) -> None:
    names = list(law.exponents)
    for place, name in enumerate(names):
        slope = law.exponents[name]
        axes.hlines(place, slope.low, slope.high, color=notation.COLOURS[0], lw=1.8)
        axes.scatter(slope.value, place, s=26, color=notation.COLOURS[0], zorder=3)
        axes.annotate(f"{slope.value:.2f}", (slope.value, place), (0, 7), textcoords="offset points", ha="center")
        if name in A25:
            axes.scatter(A25[name], place, s=60, marker="|", color=QUIET, zorder=4)
    axes.axvline(0, color=QUIET, lw=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.set_xlabel("exponent, 95 % interval (bar: A25's ½)")


def summary(law: PowerLaw) -> str:
    """The law in a line or two."""
    parts = [f"{name}^{s.value:.2f} [{s.low:.2f}, {s.high:.2f}]" for name, s in law.exponents.items()]
    censored = ((law.censored, "right-censored"), (law.before, "left-censored"))
    runs = ", ".join([f"{law.n} runs", *(f"{count} {what}" for count, what in censored if count)])
    spread = f"{law.sigma:.1%}" if law.sigma else f"at most {law.sigma_interval[1]:.1%}"
    lines = [f"tokens to the bump ∝ {' · '.join(parts)}; spread {spread}, {runs}"]
    if {"batch", "context"} <= law.exponents.keys():
        gap = law.difference("batch", "context")
        lines.append(f"exponent of batch minus that of context: {gap.value:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Fit and draw a study; returns the path of the PNG."""
    parser = command.parser(__doc__, "a study in which batch, context, learning rate or warm-up vary")
    parser.add_argument("--event", default="icl", choices=EVENTS, help="whose time (default: icl)")
    chosen = parser.parse_args(arguments)
    out: Path = chosen.out or chosen.study / "analysis"
    notation.use_style()
    try:
        rows, law = gather(command.load_located(chosen.study), chosen.event)
    except NoFitError as error:
        parser.error(f"{chosen.study}: {error}")
    figure = draw(rows, law, f"{chosen.study.resolve().name}: tokens to the bump")
    out.mkdir(parents=True, exist_ok=True)
    rows.to_csv(out / "bump_law_runs.csv", index=False)
    as_table(law).to_csv(out / "bump_law.csv", index=False)
    notation.save(figure, out / "bump_law")
    print(summary(law))
    print(f"wrote {out / 'bump_law.png'}, .svg and .csv")
    return out / "bump_law.png"


if __name__ == "__main__":
    command.run(main)
