"""Every head before and after the phase change: all scores, what its ablation costs, and its attribution.

    python analysis/head_table.py runs/quickstart [--out DIR]

Needs `bump measure` to have filled the tables. For each run in which a change was located, writes head_table.png and
.csv (prefixed with the run's name in a study) to DIR, by default to `analysis/` in the study. "Before" is the last
snapshot before the first event of the change, "after" the run's last.

Attribution (Olsson et al. 2022): let v be the change of the token losses from before the change to its end, of unit
length over the whole probe; a head's attribution is the dot product of v with what its pattern-preserving ablation does
to the token losses at the last snapshot, over the examples that heads are ablated on. Beside it stands the cosine of
the two over the same examples. It is negative where the head carries what the change brought. The control is the same
with a v from an equally long stretch of tokens before the change (from the snapshot nearest to its beginning).

There is no attribution where the change ends at the last snapshot itself, since shared noise would bias it, and no
control where there is no such stretch after step 0; either is told.
"""

from collections.abc import Sequence
from pathlib import Path

import command
import notation
import numpy as np
import pandas as pd
from bump_span import bump_span
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from induction_bump.locate.run import find
from induction_bump.records.load import Records, load

SCORES = ("prefix_matching", "previous_token", "copying_eigenvalue", "qk_eigenvalue", "copying_logit")
ATTRIBUTIONS = (
    "attribution",
    "attribution_cosine",
    "attribution_control",
    "attribution_control_cosine",
)
EFFECTS = {
    ("zero", "loss"): "loss, zero",
    ("pattern_preserving", "loss"): "loss, preserving",
    ("pattern_preserving", "ordered_copy_advantage"): "ordered copy, preserving",
    ("pattern_preserving", "icl_window_score"): "ICL, preserving",
}
"""What an ablation changes → the column's name."""


def token_losses(records: Records, run: str) -> pd.DataFrame:
    """Snapshots (by tokens) × examples."""
    rows = records.read("tokens", runs=[run])
    return rows.pivot(index="tokens", columns="example", values="loss").sort_index()


def direction(losses: pd.DataFrame, start: float, end: float) -> np.ndarray | None:
    """Change of the token losses between the snapshots nearest to two moments, of unit length."""
    places = [int(np.abs(losses.index.to_numpy() - moment).argmin()) for moment in (start, end)]
    change = losses.iloc[places[1]].to_numpy() - losses.iloc[places[0]].to_numpy()
    length = np.linalg.norm(change)
    return change / length if length else None


def attribution(records: Records, run: str, start: int, end: int, last: int) -> pd.DataFrame:
    """By layer and head at the moment `last`: `attribution` and `attribution_control` in nats, each with its `_cosine`.

    What cannot be had has no column, and without ablations at that moment there are no rows.
    """
    losses = token_losses(records, run)
    stretches = {"attribution": (start, end)} if end < last else {}
    if stretches and (before := start - (end - start)) >= losses.index[losses.index > 0].min():
        stretches["attribution_control"] = (before, start)
    directions = {name: v for name, ends in stretches.items() if (v := direction(losses, *ends)) is not None}
    ablated = records.read("ablated_tokens", runs=[run], kind="pattern_preserving")
    rows = []
    for (layer, head), part in ablated[ablated["tokens"] == last].groupby(["layer", "head"]):
        part = part.sort_values("example")
        effect = part["loss"].to_numpy() - losses.loc[last, part["example"]].to_numpy()
        row: dict[str, float] = {"layer": layer, "head": head}
        for name, whole in directions.items():
            v = whole[part["example"]]
            lengths = np.linalg.norm(effect) * np.linalg.norm(v)
            row[name] = float(effect @ v)
            row[f"{name}_cosine"] = row[name] / lengths if lengths else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def attribution_over_training(losses: pd.DataFrame, ablated: pd.DataFrame, start: float, end: float) -> pd.DataFrame:
    """Attribution of every head at every moment with ablations but for the two that define the change's direction.

    `losses` as `token_losses` gives them, `ablated` one kind's rows of the table `ablated_tokens`. Returns step,
    tokens, layer, head, value (nats) and stderr (unknown). No rows where the change moved no token.
    """
    columns = ["step", "tokens", "layer", "head"]
    v = direction(losses, start, end)
    moments = losses.index.to_numpy()
    ends = [moments[np.abs(moments - moment).argmin()] for moment in (start, end)]
    kept = ablated[~ablated["tokens"].isin(ends) & ablated["tokens"].isin(moments)]
    if v is None or kept.empty:
        return pd.DataFrame(columns=[*columns, "value", "stderr"])
    intact = losses.stack().reindex(pd.MultiIndex.from_frame(kept[["tokens", "example"]])).to_numpy()
    part = (kept["loss"] - intact) * v[losses.columns.get_indexer(kept["example"])]
    found = kept[columns].assign(value=part).groupby(columns, as_index=False)["value"].sum()
    return found.assign(stderr=np.nan)


def lacking(table: pd.DataFrame, last: int, end: int) -> str | None:
    """Why a table has no attribution, or no control of it."""
    if "attribution" not in table:
        return "the change ends at the last snapshot" if end >= last else "no ablations of the last snapshot"
    return None if "attribution_control" in table else "no stretch before the change is as long as the change"


def gather(records: Records, run: str, start: int, end: int) -> pd.DataFrame:
    """One row a head and moment: every score, every effect, and at the end the attribution."""
    ablations = records.read("ablations", runs=[run])
    ablations = ablations[ablations["layer"].notna()].astype({"layer": int, "head": int})
    heads = records.read("heads", runs=[run])
    moments = {"before": heads.loc[heads["tokens"] <= start, "tokens"].max(), "after": heads["tokens"].max()}
    tables = []
    for when, tokens in moments.items():
        scores = heads[heads["tokens"] == tokens].pivot(index=["layer", "head"], columns="measure", values="value")
        there = ablations[ablations["tokens"] == tokens]
        effects = there.pivot(index=["layer", "head"], columns=["kind", "quantity"], values="value")
        effects.columns = [f"{kind} {quantity}" for kind, quantity in effects.columns]
        tables.append(scores.join(effects).assign(when=when, tokens=tokens).reset_index())
    table = pd.concat(tables, ignore_index=True)
    found = attribution(records, run, start, end, int(moments["after"]))
    if not found.empty:
        table = table.merge(found.assign(when="after"), on=["layer", "head", "when"], how="left")
    first = ["when", "tokens", "layer", "head"]
    return table[first + [column for column in table.columns if column not in first]]


def draw(table: pd.DataFrame, title: str) -> Figure:
    """Heads × columns as shaded numbers, before and after; each column is shaded by its own largest value."""
    columns = {name: name.replace("_", "\n") for name in SCORES if name in table}
    columns |= {f"{k} {q}": label.replace(", ", "\n") for (k, q), label in EFFECTS.items() if f"{k} {q}" in table}
    columns |= {name: name.replace("_", "\n") for name in ATTRIBUTIONS if name in table}
    scale = table[list(columns)].abs().max().replace(0, 1)
    parts = list(table.groupby("when", sort=False))
    rows = len(parts[0][1])
    figure, panels = plt.subplots(
        len(parts), figsize=(1.0 * len(columns) + 1.2, 0.75 + len(parts) * (0.27 * rows + 0.75)), layout="constrained"
    )
    for axes, (when, part) in zip(np.atleast_1d(panels), parts, strict=True):
        values = part[list(columns)].to_numpy(float)
        axes.imshow(values / scale.to_numpy(), cmap="RdBu_r", vmin=-1.6, vmax=1.6, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                axes.text(column, row, f"{value:.2f}".replace("-", "−"), ha="center", va="center", fontsize=8)
        axes.set_yticks(range(rows), [f"L{layer}H{head}" for layer, head in part[["layer", "head"]].to_numpy()])
        axes.set_xticks(range(len(columns)), columns.values(), fontsize=7)
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_ylabel(f"{when}\n({part['tokens'].iloc[0] / 1e6:.2f}M tokens)")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=10)
    return figure


def main(arguments: Sequence[str] | None = None) -> list[Path]:
    """Write the table of each run with a located change; returns the paths of the PNGs."""
    parser = command.parser(__doc__, "a study or a single run")
    chosen = parser.parse_args(arguments)
    out: Path = chosen.out or chosen.study / "analysis"
    notation.use_style()
    records, events = load(chosen.study), find(chosen.study).table
    written = []
    for run_id, run in records.runs.set_index("run_id")["run"].items():
        span = bump_span(events, str(run_id))
        if span is None:
            print(f"{run}: no change was located")
            continue
        if records.read("ablated_tokens", runs=[run_id]).empty:
            print(f"{run}: no ablations are recorded; bump measure {chosen.study} takes them")
            continue
        table = gather(records, run_id, *span)
        if reason := lacking(table, int(table["tokens"].max()), span[1]):
            print(f"{run}: without {'control' if 'attribution' in table else 'attribution'}: {reason}")
        out.mkdir(parents=True, exist_ok=True)
        path = out / (f"{run}-head_table.png" if len(records.directories) > 1 else "head_table.png")
        table.to_csv(path.with_suffix(".csv"), index=False)
        figure = draw(table, str(run))
        figure.savefig(path)
        plt.close(figure)
        print(f"wrote {path} and .csv")
        written.append(path)
    return written


if __name__ == "__main__":
    command.run(main)
