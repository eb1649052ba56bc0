"""The events of one run (measures.md §6): absolute thresholds, crossed for good between two snapshots.

| event | quantity | threshold |
|---|---|---|
| `previous_token` | max over heads that a later attention layer reads; over all if keys are smeared | head threshold |
| `prefix_matching` | max over heads | head threshold |
| `prefix_matching_strong` | the same | `strong`, and at least the head threshold |
| `copy_advantage` | `ordered_copy_advantage` | min(`copy_nats`, ½ ln(number of probe tokens)) |
| `icl` | paired fall of `icl_window_score` below its plateau (plateau.py) | `icl_drop`, `icl_standard_errors` |

The head threshold is max(`head_floor`, null99 + `null_margin`), null99 being the 99th percentile of the same maximum
over fresh initialisations of the same model.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from induction_bump.locate.crossing import Crossing, first_at_least
from induction_bump.locate.formats import format_tokens
from induction_bump.locate.heads import (
    Head,
    HeadChange,
    counted_heads,
    head_scores,
    previous_token_heads,
)
from induction_bump.locate.options import LocateOptions
from induction_bump.locate.plateau import Scores, first_departure
from induction_bump.model.options import ModelOptions
from induction_bump.records.directory import RunDirectory
from induction_bump.records.schema import RecordsError

EVENTS = ("previous_token", "prefix_matching", "prefix_matching_strong", "copy_advantage", "icl")


@dataclass(frozen=True)
class Moment:
    """A snapshot on the axis of training."""

    step: int
    tokens: int


@dataclass(frozen=True)
class Event:
    """What is known about one event of one run."""

    name: str
    verdict: str
    """One of `crossing.Verdict`."""
    rule: str
    """The rule with the thresholds that were used; for `not_applicable` the reason."""
    low: Moment | None = None
    high: Moment | None = None
    before: float | None = None
    """The quantity at `low`; for `icl` its mean over the plateau."""
    after: float | None = None
    """The quantity at the last snapshot read."""
    heads: tuple[HeadChange, ...] = field(default=())
    """Heads at or above the threshold at the last snapshot read, best first."""

    @property
    def found(self) -> bool:
        """Whether it happened."""
        return self.verdict in ("found", "left_censored")

    @property
    def interval(self) -> tuple[Moment, Moment]:
        """Both ends of an event that was found."""
        assert self.low is not None, self.verdict
        assert self.high is not None, self.verdict
        return self.low, self.high


NO_SNAPSHOT = "no snapshot yet"
"""The rule of every event of a run that has measured nothing."""


class _NotApplicableError(Exception):
    """This run cannot have the event; the message is the reason."""


def find_events(run: RunDirectory) -> list[Event]:
    """All events of a run, in the order of `EVENTS`, from what is committed so far.

    Raises RecordsError where the records, or the sections `model` and `locate` of the run's config, cannot be read.
    """
    reading = _Reading(run)
    searches: dict[str, Callable[[], Event]] = {
        "previous_token": lambda: _previous_token(reading),
        "prefix_matching": lambda: _prefix_matching(reading, "prefix_matching", 0.0),
        "prefix_matching_strong": lambda: _prefix_matching(reading, "prefix_matching_strong", reading.options.strong),
        "copy_advantage": lambda: _copy_advantage(reading),
        "icl": lambda: _icl(reading),
    }
    events = []
    for name in EVENTS:
        if reading.scalars.empty:
            events.append(Event(name, "not_applicable", NO_SNAPSHOT))
            continue
        try:
            events.append(searches[name]())
        except _NotApplicableError as reason:
            events.append(Event(name, "not_applicable", str(reason)))
    return events


class _Reading:
    """What the searches read of a run, each table once."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.model = run.typed(ModelOptions, "model")
        self.options = run.typed(LocateOptions, "locate")
        self.info = run.info
        self.ended = run.status == "finished"
        self.scalars: pd.DataFrame = run.table("scalars").to_pandas()
        self.heads: pd.DataFrame = run.table("heads").to_pandas()

    def scalar(self, name: str) -> pd.DataFrame:
        """step, tokens and value of one scalar over the snapshots."""
        rows = self.scalars.query("name == @name").sort_values("step")
        if rows.empty:
            raise _NotApplicableError(f"the records hold no {name}")
        return rows


def _previous_token(reading: _Reading) -> Event:
    heads = previous_token_heads(reading.model)
    if not heads and reading.model.n_attention == 1 and counted_heads(reading.model):
        raise _NotApplicableError("one attention layer: no later one reads its heads")
    return _best_head(reading, "previous_token", "previous_token", heads, 0.0)


def _prefix_matching(reading: _Reading, event: str, at_least: float) -> Event:
    return _best_head(reading, event, "prefix_matching", counted_heads(reading.model), at_least)


def _best_head(reading: _Reading, event: str, measure: str, heads: frozenset[Head], at_least: float) -> Event:
    if not heads:
        clamped = reading.model.n_attention
        raise _NotApplicableError("every head that counts has a clamp" if clamped else "no attention layer")
    options, null99 = reading.options, float(reading.scalar(f"null99/{measure}")["value"].iloc[0])
    scores = head_scores(reading.heads, measure).only(heads)
    if not scores.heads:
        raise _NotApplicableError(f"the records hold no {measure}")
    floor = max(options.head_floor, at_least)
    threshold = max(floor, null99 + options.null_margin)
    best = _finite(scores.values, measure).max(1)
    crossing = first_at_least(best, threshold, options.sustain, ended=reading.ended)
    rule = (
        f"max over {_describe(heads, reading)} of {measure} ≥ {threshold:.3f} = max({floor:.2f}, null99 {null99:.3f} + "
        f"{options.null_margin:.2f}){_held(options)}"
    )
    low = crossing.low if crossing.low is not None else 0
    changes = (
        HeadChange(*head, before=float(scores.values[low, i]), after=float(scores.values[-1, i]))
        for i, head in enumerate(scores.heads)
        if crossing.found and scores.values[-1, i] >= threshold
    )
    carried_by = tuple(sorted(changes, key=lambda c: -c.after))
    return _event(event, rule, crossing, scores.steps, scores.tokens, best, heads=carried_by)


def _copy_advantage(reading: _Reading) -> Event:
    rows = reading.scalar("ordered_copy_advantage")
    pool = float(reading.info.probes["repeats"]["pool"])
    half = 0.5 * math.log(pool)
    options = reading.options
    threshold = min(options.copy_nats, half)
    values = _finite(rows["value"].to_numpy(np.float64), "ordered_copy_advantage")
    crossing = first_at_least(values, threshold, options.sustain, ended=reading.ended)
    rule = (
        f"ordered_copy_advantage ≥ {threshold:.2f} nats = min({options.copy_nats:.2f}, ½ ln {pool:.0f} = {half:.2f})"
        f"{_held(options)}"
    )
    return _event("copy_advantage", rule, crossing, rows["step"].to_numpy(), rows["tokens"].to_numpy(), values)


def _icl(reading: _Reading) -> Event:
    scores, steps = _icl_scores(reading)
    options = reading.options
    try:
        found = first_departure(
            scores,
            drop=options.icl_drop,
            standard_errors=options.icl_standard_errors,
            start=_out_of_warmup(reading),
            sustain=options.sustain,
            ended=reading.ended,
        )
    except ValueError as error:
        raise _NotApplicableError(str(error)) from None
    means = scores.values.mean(1)
    rule = (
        f"icl_window_score at least {options.icl_drop:.2f} nat and {options.icl_standard_errors:g} paired standard "
        f"errors below its plateau{_held(options)}"
    )
    before = None
    if found.plateau:
        before = float(means[list(found.plateau)].mean())
        first, last = (format_tokens(float(scores.tokens[i])) for i in (found.plateau[0], found.plateau[-1]))
        rule += f"; plateau at {first}–{last} tokens" if first != last else f"; plateau at {first} tokens"
    return _event("icl", rule, found.crossing, steps, scores.tokens, means, before=before)


def _icl_scores(reading: _Reading) -> tuple[Scores, npt.NDArray[np.int64]]:
    """icl_window_score of every example at every snapshot that holds it, and the steps of those snapshots."""
    table = reading.run.table("examples")
    rows = table.filter(pc.field("name") == "icl_window_score").to_pandas()
    if rows.empty:
        raise _NotApplicableError("the records hold no icl_window_score per example")
    wide = (
        rows.pivot(index=["step", "tokens"], columns="example", values="value").sort_index().sort_index(axis="columns")
    )
    values = _finite(wide.to_numpy(np.float64), "icl_window_score")
    tokens, steps = (wide.index.get_level_values(k).to_numpy(np.int64) for k in ("tokens", "step"))
    return Scores(tokens, values, _documents(reading.run, wide.columns.to_numpy(np.int64))), steps


def _documents(run: RunDirectory, examples: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The document of each example; each its own where the run does not say."""
    probes = run.probes()
    if probes is None:
        return examples
    documents: dict[int, int] = dict(zip(*(probes.column(c).to_pylist() for c in ("example", "document")), strict=True))
    missing = [int(example) for example in examples if int(example) not in documents]
    if missing:
        raise RecordsError(f"{run.path}: its probes lack example {missing[0]}, which its records have a score of")
    return np.array([documents[int(example)] for example in examples], np.int64)


def _out_of_warmup(reading: _Reading) -> float:
    """Tokens at which the learning rate had come to half its peak; 0 where no training rows are kept."""
    table = reading.run.table("training")
    rates = table.column("learning_rate").to_numpy()
    return float(table.column("tokens").to_numpy()[rates >= rates.max() / 2][0]) if len(rates) else 0.0


def _finite(values: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
    if not np.isfinite(values).all():
        raise _NotApplicableError(f"{name} is not finite at every snapshot")
    return values


def _describe(heads: frozenset[Head], reading: _Reading) -> str:
    """Which heads a maximum is over, in words."""
    if heads == counted_heads(reading.model):
        return "all heads"
    layers = sorted({layer for layer, _ in heads})
    return "heads of " + ", ".join(f"L{layer}" for layer in layers)


def _held(options: LocateOptions) -> str:
    return f", held on {options.sustain} further snapshots" if options.sustain else ""


def _event(
    name: str,
    rule: str,
    crossing: Crossing,
    steps: npt.NDArray[np.int64],
    tokens: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    *,
    before: float | None = None,
    heads: tuple[HeadChange, ...] = (),
) -> Event:
    def moment(index: int | None) -> Moment | None:
        return None if index is None else Moment(int(steps[index]), int(tokens[index]))

    if before is None and crossing.low is not None:
        before = float(values[crossing.low])
    low, high = moment(crossing.low), moment(crossing.high)
    return Event(name, crossing.verdict, rule, low, high, before, float(values[-1]), heads)
