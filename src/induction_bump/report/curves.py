"""What figures are made of: curves with their colours, thinned snapshots, and the words where nothing can be drawn.

See figures.py for the layout of a figure.
"""

from collections.abc import Sequence
from shlex import quote
from typing import Any

import numpy as np

from induction_bump.report.contents import Array, Curve, RunContents
from induction_bump.report.numbers import known, rounded

Figure = dict[str, Any]

BAND = 2.0
"""Half width of the bands, in standard errors."""

_SELDOM = 2

LABELS = {
    "prefix_matching": "prefix matching",
    "previous_token": "previous token",
    "first_token": "first token",
    "copying_eigenvalue": "copying eigenvalue",
    "copying_logit": "copying logit",
    "qk_eigenvalue": "QK eigenvalue",
    "qk_trace": "QK trace",
    "qk_trace_shifted_key": "QK trace, shifted key",
    "smear": "smear",
    "prefix_matching_mean": "prefix matching, mean over copies",
    "prefix_matching_off_by_one": "prefix matching, off by one (control)",
    "duplicate_token": "duplicate token (control)",
}
"""Head measures in the order of the page, by name; others follow under their own names."""

SIGNED = ("copying_eigenvalue", "copying_logit", "qk_eigenvalue", "qk_trace")
"""Head measures (and their variants: names that begin so) that may be negative."""


def label_of(measure: str) -> str:
    """A head measure's name for people."""
    return LABELS.get(measure, measure.replace("_", " ").replace("qk", "QK"))


def is_signed(measure: str) -> bool:
    """Whether a head measure has a meaningful zero that it may fall below."""
    return measure.startswith(SIGNED) and not measure.endswith(("_share", "_left_out"))


def chance(run: RunContents, measure: str) -> float:
    """Where colours of a signed head measure change: 0, or what chance gives."""
    recorded = run.scalars.get(f"{measure}_chance")
    return (recorded.last if recorded else None) or 0.0


def in_order(measures: Sequence[str]) -> list[str]:
    """Head measures as the page orders them."""
    return [*(name for name in LABELS if name in measures), *(name for name in measures if name not in LABELS)]


def series(place: int) -> dict[str, Any]:
    """Colour and dash of the curve at `place`: seven colours, then the same ones dashed otherwise."""
    return {"color": f"--series-{place % 7}", "dash": ("solid", "dash", "dot", "dashdot")[place // 7 % 4]}


def curve(x: str, key: str, name: str, drawn: Curve, style: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A Plotly line with its band."""
    band = {"band": rounded(BAND * drawn.stderr)} if known(drawn.stderr) else {}
    line = {"width": 2, **style}
    return (
        {"type": "scatter", "x": x, "y": rounded(drawn.values), "name": name, "legendgroup": key, "line": line}
        | band
        | more
    )


def spread(count: int, most: int) -> Array:
    """At most `most` of the places 0 … count − 1, evenly spread, the first and the last among them.

    >>> spread(9, 5).tolist()
    [0, 2, 4, 6, 8]
    """
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, max(2, most)).round().astype(int))


def moments(figure: Figure, steps: Array, tokens: Array, kept: Array) -> Figure:
    """A figure with the snapshots that its slider holds; its caption says where they are not all."""
    left_out = f" The slider holds {len(kept)} of {len(steps)} snapshots." if len(kept) < len(steps) else ""
    caption = figure["caption"] + left_out
    return figure | {"caption": caption, "steps": steps[kept].tolist(), "tokens": tokens[kept].tolist()}


def absent(run: RunContents, why: str) -> str:
    """Why something is not drawn, before and after the first snapshot."""
    return "Nothing recorded yet: it appears with the first snapshot." if run.going and not len(run.steps) else why


def no_heads(run: RunContents) -> str:
    """Why there is nothing to show of heads."""
    if not run.n_attention:
        return "This model has no attention layer, so it has no heads."
    return absent(run, "Head scores are not in these records.")


def not_measured(run: RunContents, measures: Sequence[str]) -> dict[str, str]:
    """Why a figure that needs these measures is empty: the model cannot have one, or the command that takes them."""
    if not run.n_attention:
        return {"empty": no_heads(run)}
    reasons = [reason for name in measures if (reason := run.info.not_applicable.get(name))]
    if reasons:
        return {"empty": f"Not applicable to this model: {reasons[0]}".rstrip(".") + "."}
    if run.going:
        return {"empty": absent(run, "Not among the snapshots so far; it can be measured once the run has ended.")}
    if not run.weights:
        return {"empty": "Not in these records, and no snapshot kept its weights to measure it from."}
    how = measure_command(run, measures)
    return {"empty": "Not in these records. Measured from the saved weights by", "command": how}


def seldom(run: RunContents, tokens: Array, measures: Sequence[str]) -> dict[str, list[dict[str, str]]]:
    """A note where a figure over time is of one or two snapshots, with the command that takes the others."""
    if len(tokens) > _SELDOM or len(tokens) >= len(run.tokens):
        return {}
    text = f"Measured at {'one snapshot' if len(tokens) == 1 else 'two snapshots'} alone."
    if run.going or not run.weights:
        return {"notes": [{"text": text}]}
    return {"notes": [{"text": f"{text} At the others by", "command": measure_command(run, measures)}]}


def measure_command(run: RunContents, measures: Sequence[str] = ()) -> str:
    """The command that measures a run afterwards."""
    chosen = f" --measures {','.join(measures)}" if measures else ""
    return f"bump measure {quote(str(run.directory.path))}{chosen}"
