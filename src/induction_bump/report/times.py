"""When each run had the bump, a row a cell: SVG that needs no script.

Places along the axis are shares of the width, all else is in pixels, so that text stays readable on a narrow screen.
Colours are the page's variables, which have a dark variant.
"""

from collections.abc import Callable, Iterator, Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from induction_bump.locate.formats import format_tokens
from induction_bump.records.cells import Cells

_ROW, _AXIS = 52, 26
"""Heights of a cell and of the axis, in pixels."""
_SPREAD = 16
"""Pixels over which the runs of a cell are spread, so that none hides another."""
_MARGIN = 4.0
"""Percent of the width left free on either side of the times."""
_MANTISSAS = ((1, 2, 5), (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8))
_FEWEST_TICKS = 2

Place = Callable[[float], float]
"""Tokens → percent of the width."""


def times_figure(times: pd.DataFrame, cells: Cells, names: Mapping[str, str]) -> str:
    """A dot a run on a logarithmic axis of tokens with the geometric mean of its cell, an arrow where only a bound is
    known.

    times: rows of `event_times` by run_id; names: run_id → the run's name. Empty where no run has a known time.
    """
    shown = times.query("state != 'undefined'")
    known = np.concatenate([shown["estimate"].dropna(), shown["low"][shown["state"] == "after"]]).astype(np.float64)
    known = known[known > 0]
    if shown.query("state == 'located'").empty:
        return ""
    low, high = float(known.min()) / 1.02, float(known.max()) * 1.02

    def place(tokens: float) -> float:
        return _MARGIN + (100 - 2 * _MARGIN) * float(np.log(max(tokens, low) / low) / np.log(high / low))

    rows, said = [], []
    for cell in cells.names:
        own = shown.reindex([run_id for run_id in cells.runs(cell) if run_id in shown.index])
        rows.append(_row(cell, own, names, len(rows) * _ROW, place))
        said.append(f"{cell}: {_words(own)}")
    height = len(rows) * _ROW
    label = escape(f"Time of the bump. {'; '.join(said)}.")
    return (
        f'<svg role="img" aria-label="{label}" width="100%" height="{height + _AXIS}" '
        f'style="display:block;max-width:860px;margin-bottom:12px;font-size:12.5px;fill:var(--text-2)">'
        f"{_axis(low, high, height, place)}{''.join(rows)}</svg>"
    )


def _row(cell: str, own: pd.DataFrame, names: Mapping[str, str], top: int, place: Place) -> str:
    middle = top + 34
    offsets = np.linspace(-_SPREAD / 2, _SPREAD / 2, len(own)) if len(own) > 1 else [0.0] * len(own)
    marks = [
        _mark(row, names[str(row["run_id"])], middle + float(offset), place)
        for row, offset in zip(own.reset_index().to_dict("records"), offsets, strict=True)
    ]
    mean = _mean(own)
    if mean is not None:
        x = f"{place(mean):.2f}%"
        marks.append(
            f'<line x1="{x}" x2="{x}" y1="{middle - 13}" y2="{middle + 13}" style="stroke:var(--series-1)" '
            f'stroke-width="2"><title>geometric mean: {format_tokens(mean, 3)}</title></line>'
        )
    return f'<text x="0" y="{top + 14}" style="fill:var(--text)">{escape(cell)}</text>{"".join(marks)}'


def _mark(row: Mapping[Any, Any], name: str, y: float, place: Place) -> str:
    """A dot where the time is known, an arrow to the side on which it lies where it is not."""
    if row["state"] == "located":
        title = escape(f"{name}: {format_tokens(row['estimate'], 3)}")
        x = f"{place(row['estimate']):.2f}%"
        return f'<circle cx="{x}" cy="{y:.1f}" r="3.5" style="fill:var(--series-0)"><title>{title}</title></circle>'
    after = row["state"] == "after"
    title = escape(f"{name}: " + (f"not by {format_tokens(row['low'], 3)}" if after else "from the start"))
    x = place(row["low"]) if after else _MARGIN / 2
    # a path has no shares of the width, but the frame that it is drawn in does
    return (
        f'<svg x="{x:.2f}%" y="{y:.1f}" overflow="visible"><path d="M0 -4L{7 if after else -7} 0L0 4Z" '
        f'style="fill:var(--surface);stroke:var(--text-3)"><title>{title}</title></path></svg>'
    )


def _mean(own: pd.DataFrame) -> float | None:
    estimates = own["estimate"].dropna().to_numpy(np.float64)
    return float(np.exp(np.log(estimates).mean())) if len(estimates) else None


def _words(own: pd.DataFrame) -> str:
    """What a row shows, for who cannot see it."""
    counts, mean = own["state"].value_counts(), _mean(own)
    parts = [f"{counts['located']} at {format_tokens(mean, 3)} on average"] if mean is not None else []
    further = (("after", "without"), ("before", "from the start"))
    return ", ".join([*parts, *(f"{counts[state]} {what}" for state, what in further if state in counts)]) or "no run"


def _axis(low: float, high: float, height: int, place: Place) -> str:
    lines = []
    for tokens, text in _ticks(low, high):
        x = f"{place(tokens):.2f}%"
        lines.append(
            f'<line x1="{x}" x2="{x}" y1="0" y2="{height}" style="stroke:var(--grid)"/>'
            f'<text x="{x}" y="{height + 18}" text-anchor="middle">{text}</text>'
        )
    return "".join(lines)


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    found = [list(_multiples(low, high, mantissas)) for mantissas in _MANTISSAS]
    return next((ticks for ticks in found if len(ticks) >= _FEWEST_TICKS), found[-1])


def _multiples(low: float, high: float, mantissas: tuple[float, ...]) -> Iterator[tuple[float, str]]:
    for exponent in range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1):
        for mantissa in mantissas:
            tokens = mantissa * 10.0**exponent
            if low <= tokens <= high:
                yield tokens, format_tokens(tokens, 1 if mantissa == int(mantissa) else 2)
