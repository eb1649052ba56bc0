"""The tables of docs/locating.md: calibration, and what locating says of the runs of the studies."""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.calibration import OURS, QUANTITIES
from benchmarks.cells import COUNTS
from benchmarks.markdown import table

_POOLED = {"change": "pooled", "fresh": "pooled, fresh"}
"""By kind of setting: the name of the row over all of its kind."""
_KINDS_OF_LOSSES = {
    "random walk": "random walk in ln tokens along a few directions",
    "power laws": "each token learned by a power law of its own",
    "one by one": "each token learned within a fifth of an e-fold, at a time of its own",
    "together": "a tenth of the tokens of such a random walk lose 2 nats together",
}
_KNOWN = {"placed": "placed, error {:g}", "between": "between snapshots {:g} apart"}
_OVER_SEEDS = ("medians", "spreads")

Cells = Sequence[tuple[str, Sequence[str]]]
"""Cells of studies; no run is in two of them."""

_HELD = ("plain", *(f"L0H0 pulled to the {token} token" for token in ("previous", "first")), "L0H0 held at zero")
_ORDERS = ("sfsf", "sfsfsf", "fsfs", "fssf", "ssff", "ssfsff", "sssfff")
_BATCHES = (8, 16, 32)

REAL: dict[str, Cells] = {
    'no attention (`""`, `f`)': [("depth", ["no sublayer", "f"])],
    "one layer, with and without MLP": [("smeared_keys", ["s"]), ("depth", ["sf"])],
    "two layers, little or nothing to copy": [("repeat_share", ["copy share 0.1", "copy share 0"])],
    "two layers behind two MLPs (`ffss`, `sffs`)": [("sublayer_order", ["ffss", "sffs"])],
    "two and three layers, with and without clamps": [
        ("clamps", [*_HELD, "L0H0 pulled to the token before it"]),
        ("depth", ["sss"]),
        ("repeat_share", [f"copy share {share}" for share in (0.2, 0.4, 0.6, 0.9)]),
    ],
    "two and three layers with MLPs, other orders": [("sublayer_order", _ORDERS)],
    "one layer, smeared keys": [("smeared_keys", ["s, smeared keys"])],
    "two layers, smeared keys": [("smeared_keys", ["ss, smeared keys"])],
    "`batch_context`, contexts of 128 and 256": [
        ("batch_context", [f"context 128, length 8Mtok, batch {batch}" for batch in _BATCHES]),
        ("batch_context", [f"context 256, length 15Mtok, batch {batch}" for batch in _BATCHES]),
    ],
    "`batch_context`, a context of 512": [
        ("batch_context", [f"context 512, length 8Mtok, batch {batch}" for batch in _BATCHES])
    ],
}
"""Real trainings by what they are, all runs of the six studies once."""


def tables(docs: Path) -> dict[str, str]:
    """The tables of the page by name, from the files below `docs`."""
    changes, nulls, components, cells = (
        pd.read_csv(docs / "locating" / f"{name}.csv") for name in ("changes", "nulls", "components", "cells")
    )
    return {
        "coverage": coverage(changes),
        "methods": methods(changes, nulls),
        "false alarms": false_alarms(nulls),
        "components": components_found(components),
        "cells": over_seeds(cells),
        "real trainings": real_trainings(docs / "results" / "studies"),
    }


def coverage(changes: pd.DataFrame) -> str:
    """A row a setting, and one over all of a kind; below it the least of their entries."""
    ours = changes[changes["method"] == OURS]
    rows, least = [], []
    for kind, of_kind in ours.groupby("kind", sort=False):
        columns = [f"coverage_{quantity}" for quantity in QUANTITIES]
        for line in of_kind.to_dict("records"):
            errors = ", ".join(f"{100 * line[f'error_{q}']:.1f}" for q in ("onset", "midpoint", "end"))
            shares = _per_cent(line[c] for c in ("placed", *columns))
            rows.append([line["setting"], *shares, errors, f"{100 * line['undetermined']:.0f}"])
        if kind not in _POOLED:
            continue
        placed = of_kind["placed"] * of_kind["curves"]
        covered = [f"**{share}**" for share in _per_cent((of_kind[c] * placed).sum() / placed.sum() for c in columns)]
        shares = _per_cent(np.average(of_kind[c], weights=of_kind["curves"]) for c in ("placed", "undetermined"))
        rows.append([f"**{_POOLED[str(kind)]}**", shares[0], *covered, "", shares[1]])
        entries = of_kind[columns].to_numpy()
        least.append(f"{100 * np.nanmin(entries):.0f} % of the {entries.size} above “{_POOLED[str(kind)]}”")
    heads = ["setting", "placed", "onset", "midpoint", "end", "ln(end/onset)", "drop", "errors", "undetermined"]
    return f"{table(heads, rows)}\n\nThe least entries are {' and '.join(least)}."


def methods(changes: pd.DataFrame, nulls: pd.DataFrame) -> str:
    """A row a method, over all settings and nulls: bias and error where it places anything, and false alarms."""
    rows = []
    for method in changes["method"].unique():
        drawn, null = changes[changes["method"] == method], nulls[nulls["method"] == method]
        placed = drawn["placed"] * drawn["curves"]
        row = ["**this one**" if method == OURS else method, f"{100 * placed.sum() / drawn['curves'].sum():.0f}"]
        for quantity in ("onset", "midpoint", "end"):
            bias = (drawn[f"bias_{quantity}"] * placed).sum() / placed.sum()
            error = np.sqrt((drawn[f"error_{quantity}"] ** 2 * placed).sum() / placed.sum())
            row.append(f"{100 * bias:+.1f}, {100 * error:.1f}")
        alarms = null["alarms"].sum() / null["curves"].sum()
        rows.append([*row, f"{100 * alarms:.1f} %", f"{100 * null['share'].max():.1f} %"])
    return table(["method", "placed", "onset", "midpoint", "end", "false alarms", "worst null"], rows)


def false_alarms(nulls: pd.DataFrame) -> str:
    """A row a null."""
    rows = []
    for line in nulls[nulls["method"] == OURS].to_dict("records"):
        alarms = f"{line['alarms']} ({100 * line['share']:.1f} %)"
        bounds = f"{100 * line['low']:.1f}–{100 * line['high']:.1f} %"
        others = [f"{100 * line['p_below_0.01']:.1f} %", f"{100 * line['undetermined']:.0f} %"]
        rows.append([line["setting"], line["curves"], alarms, bounds, *others])
    return table(["null", "curves", "false alarms", "bounds", "p ≤ 0.01", "undetermined"], rows)


def components_found(components: pd.DataFrame) -> str:
    """A row a kind of token losses."""
    rows = []
    for line in components.to_dict("records"):
        found = f"{line['found']} ({100 * line['share']:.0f} %)" if line["found"] else "0"
        low = f"{100 * line['low']:.0f}"
        high = f"{100 * line['high']:.{0 if line['found'] else 1}f}"
        rows.append([_KINDS_OF_LOSSES[line["kind"]], line["searches"], found, f"{low}–{high} %"])
    return table(["token losses", "searches", "a change is found", "bounds"], rows)


def over_seeds(cells: pd.DataFrame) -> str:
    """A row a kind of knowledge, a column a share of runs that are too short, all sizes of cells together."""
    shares = sorted(cells["censored"].unique())
    rows, least = [], []
    for (known, size), found in cells.groupby(["known", "size"], sort=False):
        told = found.groupby("censored")[list(COUNTS)].sum()
        held = [[told.at[share, f"{name}_held"] / told.at[share, name] for name in _OVER_SEEDS] for share in shares]
        open_below = 1 - found["spreads_above_0"].sum() / found["spreads"].sum()
        rows.append([_KNOWN[known].format(size), *(", ".join(_per_cent(each)) for each in held)])
        rows[-1] += _per_cent([open_below])
        least.append(np.min(held, axis=0))
    over_all = [cells[f"{name}_held"].sum() / cells[name].sum() for name in _OVER_SEEDS]
    heads = ["each run is", *(f"{100 * share:.0f} % too short" for share in shares), "`cv_low` is 0"]
    told = [" and ".join(_per_cent(shares)) for shares in (over_all, np.min(least, axis=0))]
    return f"{table(heads, rows)}\n\nOver all, {told[0]} %; the least entries, {told[1]} %."


def real_trainings(studies: Path) -> str:
    """A row a kind of training: what is said of a change of its ICL score, and whether it has the ICL event.

    Raises ValueError where a run would be counted twice or never.
    """
    names = dict.fromkeys(study for cells in REAL.values() for study, _ in cells)
    cells = pd.concat({s: pd.read_csv(studies / f"{s}-cells.csv").set_index(["cell", "event"]) for s in names})
    times = pd.concat({s: pd.read_csv(studies / f"{s}-times.csv").set_index("cell") for s in names})
    rows, counted = [], []
    for kind, of_kind in REAL.items():
        chosen = list(chain.from_iterable([(study, cell) for cell in named] for study, named in of_kind))
        counted += times.loc[chosen, "run_id"].tolist()
        change, event = (cells.loc[[(*cell, name) for cell in chosen]] for name in ("icl_change", "icl"))
        n, placed, left_open = (int(change[column].sum()) for column in ("runs", "found", "undetermined"))
        rows.append([kind, n, placed, n - placed - left_open, left_open, int(event["found"].sum())])
    if sorted(counted) != sorted(times["run_id"].unique()):
        raise ValueError(f"{studies}: runs are counted twice, or left out")
    return table(["runs", "", "placed", "`none`", "`undetermined`", "with the `icl` event"], rows)


def _per_cent(shares: Iterable[float]) -> list[str]:
    return [f"{100 * share:.0f}" for share in shares]
