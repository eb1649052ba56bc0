"""The run that figures of measures are drawn from: its tables, its bump, and how its lines are drawn."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import notation
import numpy as np
import pandas as pd
from bump_span import bump_span
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from induction_bump.locate.heads import head_name
from induction_bump.locate.run import Located
from induction_bump.records.directory import RunDirectory
from induction_bump.records.load import Records
from induction_bump.records.schema import RunInfo

WIDTH = 7.2
"""Of every figure, in inches."""
QUIET = "#9a9a9a"
"""What is there to compare with, and heads that do not stand out."""


class MissingError(Exception):
    """Rows that a figure needs are not in the records; says which, in one clause."""


@dataclass(frozen=True)
class MeasuredRun:
    """One run of a study."""

    records: Records
    located: Located
    run_id: str
    scale: str = "linear"
    """Of token axes."""

    @cached_property
    def directory(self) -> RunDirectory:
        """Where it is."""
        return next(run for run in self.records.directories if run.info.run_id == self.run_id)

    @property
    def info(self) -> RunInfo:
        """Its run.json."""
        return self.directory.info

    @property
    def model(self) -> dict[str, Any]:
        """The model in its config."""
        return self.directory.config["model"]

    @cached_property
    def bump(self) -> tuple[float, float] | None:
        """Its span in tokens; None where no event was located."""
        return bump_span(self.located.table, self.run_id)

    def read(self, table: str, **equals: object) -> pd.DataFrame:
        """Rows of a table. Raises MissingError where it has none of some value that is asked for."""
        rows = self.records.read(table, runs=[self.run_id], **equals)
        for column, wanted in equals.items():
            there = set(rows[column])
            if absent := [
                str(each) for each in (wanted if isinstance(wanted, list) else [wanted]) if each not in there
            ]:
                raise MissingError(f"the table {table} has no {', '.join(absent)}")
        if rows.empty:
            raise MissingError(f"the table {table} is empty")
        if {"layer", "head"} <= set(rows.columns):
            names = zip(rows["layer"], rows["head"], strict=True)
            rows["at"] = [None if pd.isna(layer) else head_name((int(layer), int(head))) for layer, head in names]
        return rows.sort_values("step", kind="stable")

    def before_and_after(self, rows: pd.DataFrame) -> tuple[int, int]:
        """Steps of the last snapshot before the bump (the first of all where there is no bump) and of the last."""
        until = rows["tokens"].min() if self.bump is None else max(self.bump[0], rows["tokens"].min())
        return int(rows.loc[rows["tokens"] <= until, "step"].max()), int(rows["step"].max())

    def time_axis(self, axes: Axes, *, labelled: bool = True) -> None:
        """Tokens from left to right, the bump shaded."""
        notation.token_axis(axes, self.scale)
        if not labelled:
            axes.set_xlabel("")
        if self.bump is not None:
            axes.axvspan(*self.bump, color="#000000", alpha=0.08, lw=0)


def panels(rows: int, columns: int, height: float = 2.2, **options: object) -> tuple[Figure, np.ndarray]:
    """Small multiples: rows × columns of axes."""
    size = (WIDTH, height * rows + 0.35)
    return plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **options)


def titled(axes: Axes, title: str, unit: str = "") -> None:
    """What a panel shows, above it, with its unit at the axis."""
    axes.set_title(title, loc="left", fontsize="medium")
    axes.set_ylabel(unit)


def line(axes: Axes, rows: pd.DataFrame, colour: str, label: str | None = None, **style: object) -> None:
    """value ± stderr over tokens."""
    stderr = rows["stderr"].astype(float).fillna(0.0)
    edges = (rows["value"] - stderr, rows["value"] + stderr)
    notation.curve(axes, rows["tokens"], rows["value"], edges, colour, label, **style)


def head_lines(axes: Axes, rows: pd.DataFrame, reference: float = 0.0) -> None:
    """A line a head, in its layer's colour; the one that ends furthest from `reference` is named."""
    ends: dict[str, tuple[float, int]] = {}
    for name, own in rows.groupby("at"):
        layer = int(own["layer"].iloc[0])
        line(axes, own, layer_colour(layer), linewidth=1.2, alpha=0.9)
        ends[str(name)] = float(own["value"].iloc[-1]), layer
    name = max(ends, key=lambda name: abs(ends[name][0] - reference))
    value, layer = ends[name]
    name_line(axes, rows["tokens"].max(), value, name, layer_colour(layer))


def name_line(axes: Axes, tokens: float, value: float, name: str, colour: str, side: str = "right") -> None:
    """Write a line's name at its end, to one side of it."""
    away, text = (5, "left") if side == "right" else (-6, "right")
    place = {"xytext": (away, 0), "textcoords": "offset points", "ha": text, "va": "center", "annotation_clip": False}
    axes.annotate(name, (tokens, value), color=colour, fontsize="small", fontweight="bold", **place)


def layer_colour(layer: int) -> str:
    """The colour of all heads of an attention layer."""
    return notation.COLOURS[layer % len(notation.COLOURS)]


def of_layers(layers: Iterable[int]) -> list[plt.Line2D]:
    """Entries of a legend: which colour is which layer."""
    return [plt.Line2D([], [], color=layer_colour(n), label=f"heads of layer {n}") for n in sorted(set(layers))]


def legend_below(figure: Figure, handles: Sequence[plt.Line2D]) -> None:
    """A legend in one row below all panels."""
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def by(rows: pd.DataFrame, *columns: Hashable) -> dict[tuple[Hashable, ...], pd.DataFrame]:
    """Rows by the values of some columns, in order of first appearance."""
    return dict(iter(rows.groupby(list(columns), sort=False)))
