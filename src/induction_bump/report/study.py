"""The figures and the table of a study's page: its runs laid over each other."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from induction_bump.records.load import flatten
from induction_bump.report.contents import Curve, RunContents
from induction_bump.report.curves import Figure, curve, series
from induction_bump.report.events import NAMES, Event
from induction_bump.report.numbers import known

_SCALARS = (
    (
        "icl_window_score",
        "In-context learning",
        "ICL window score",
        "Late minus early loss: more negative means more in-context learning, so a bump shows as a sudden fall.",
        "score (nats)",
        "icl",
    ),
    (
        "icl_score",
        "In-context learning",
        "ICL score at single positions",
        "The same difference between two single positions: noisier, but comparable with published curves.",
        "score (nats)",
        "icl",
    ),
    (
        "ordered_copy_advantage",
        "Copying and loss",
        "Ordered copy advantage",
        "Nats saved on a true second copy of random tokens against a shuffled one: only copying in order wins them.",
        "advantage (nats per token)",
        "copy_advantage",
    ),
    (
        "loss",
        "Copying and loss",
        "Held-out loss",
        "Look for runs that leave the others in a short stretch; the shaded interval is where ICL set in.",
        "loss (nats per token)",
        "icl",
    ),
)

_HEADS = (
    (
        "prefix_matching",
        "Best head's prefix matching",
        "Score of the best head at each snapshot: it rises where an induction head forms.",
    ),
    (
        "previous_token",
        "Best head's previous-token attention",
        "Score of the best head at each snapshot: where two layers are needed, this rises first.",
    ),
)

# What says where a run was computed, not what it computed.
_NOT_COMPARED = ("paths", "devices", "tracking", "report", "locate")


def labels(runs: Sequence[RunContents]) -> list[str]:
    """Names of the runs, with the run_id where a name is not theirs alone."""
    names = [run.info.name for run in runs]
    return [
        f"{name} {run.info.run_id[:6]}" if names.count(name) > 1 else name
        for name, run in zip(names, runs, strict=True)
    ]


def key_of(run: RunContents) -> str:
    """What a legend entry of the run switches, in all figures."""
    return f"run:{run.info.run_id}"


def study_axes(runs: Sequence[RunContents]) -> dict[str, list[int]]:
    """Tokens of each run's snapshots."""
    return {key_of(run): run.tokens.tolist() for run in runs}


def legend(runs: Sequence[RunContents]) -> list[dict[str, Any]]:
    """An entry a run, the same in every figure."""
    return [
        {"key": key_of(run), "label": label, **series(i)}
        for i, (run, label) in enumerate(zip(runs, labels(runs), strict=True))
    ]


def study_figures(runs: Sequence[RunContents], located: Sequence[Sequence[Event] | None]) -> list[Figure]:
    """All figures of a study's page, in order."""
    figures = [_scalar(runs, located, *about) for about in _SCALARS]
    heads = [_best_head(runs, located, *about) for about in _HEADS]
    return [*figures, *heads]


def _figure(
    runs: Sequence[RunContents],
    located: Sequence[Sequence[Event] | None],
    about: Mapping[str, str],
    event: str,
    curves: Sequence[dict[str, Any] | None],
) -> Figure:
    entries = legend(runs)
    intervals = [
        {"key": entry["key"], "color": entry["color"], "low": e.tokens_low or 0, "high": e.tokens_high}
        for entry, events in zip(entries, located, strict=True)
        for e in events or ()
        if e.name == event and e.state == "found"
    ]
    drawn = [trace for trace in curves if trace]
    figure: Figure = {**about, "kind": "time", "traces": drawn, "legend": entries, "intervals": intervals}
    return figure if drawn else figure | {"empty": "None of the runs has recorded this."}


def _scalar(
    runs: Sequence[RunContents],
    located: Sequence[Sequence[Event] | None],
    name: str,
    section: str,
    title: str,
    caption: str,
    y: str,
    event: str,
) -> Figure:
    about = {"id": name, "section": section, "title": title, "caption": caption, "y": y}
    curves = [
        curve(key_of(run), key_of(run), label, run.scalars[name], series(i))
        if name in run.scalars and known(run.scalars[name].values)
        else None
        for i, (run, label) in enumerate(zip(runs, labels(runs), strict=True))
    ]
    return _figure(runs, located, about, event, curves)


def _best_head(
    runs: Sequence[RunContents],
    located: Sequence[Sequence[Event] | None],
    measure: str,
    title: str,
    caption: str,
) -> Figure:
    about = {"id": measure, "section": "Heads", "title": title, "caption": caption, "y": "attention (0 to 1)"}
    curves = [
        _best_curve(run, label, measure, series(i)) if measure in run.heads else None
        for i, (run, label) in enumerate(zip(runs, labels(runs), strict=True))
    ]
    return _figure(runs, located, about, measure, curves)


def _best_curve(run: RunContents, label: str, measure: str, style: dict[str, Any]) -> dict[str, Any]:
    scores = run.heads[measure].reshape(len(run.steps), -1)
    filled = np.where(np.isfinite(scores), scores, -np.inf)
    best = filled.max(axis=1)
    drawn = Curve(np.where(np.isfinite(best), best, np.nan), np.full(len(best), np.nan))
    names = [run.head_names[place] for place in filled.argmax(axis=1)]
    return curve(key_of(run), key_of(run), label, drawn, style, text=names)


def event_names(located: Sequence[Sequence[Event] | None]) -> list[str]:
    """Columns of the table: every event that some run was asked about, in the order of the page."""
    asked = list(dict.fromkeys(event.name for events in located for event in events or ()))
    return [*(name for name in NAMES if name in asked), *(name for name in asked if name not in NAMES)]


def differences(runs: Sequence[RunContents], most: int = 4) -> dict[str, list[str]]:
    """Config values in which the runs differ, by dotted key: one text a run, at most `most` keys."""
    flat = [flatten(run.config) for run in runs]
    keys = dict.fromkeys(key for values in flat for key in values)
    compared = [key for key in keys if key.split(".")[0] not in _NOT_COMPARED]
    columns = {key: [_text(values.get(key)) for values in flat] for key in compared}
    return dict([(key, column) for key, column in columns.items() if len(set(column)) > 1][:most])


def _text(value: Any) -> str:
    if value is None or value == "":
        return "–" if value is None else "(none)"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def final_values(run: RunContents) -> tuple[float | None, float | None]:
    """Latest held-out loss and ICL window score of a run."""
    loss, icl = run.scalars.get("loss"), run.scalars.get("icl_window_score")
    return (loss.last if loss else None), (icl.last if icl else None)
