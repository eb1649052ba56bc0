"""The events of one run: absolute thresholds, crossed for good between two snapshots.

Defined in docs/measures/definitions.md#events.

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

from induction_bump.locate.crossing import Crossing, first_at_least
from induction_bump.locate.formats import format_tokens
from induction_bump.locate.heads import (
    Head,
    HeadChange,
    counted_heads,
    head_scores,
    previous_token_heads,
)
from induction_bump.locate.moments import Moment
from induction_bump.locate.options import LocateOptions
from induction_bump.locate.plateau import first_departure
from induction_bump.locate.reading import NotApplicableError, Reading, finite
from induction_bump.records.directory import RunDirectory

EVENTS = ("previous_token", "prefix_matching", "prefix_matching_strong", "copy_advantage", "icl")


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


def find_events(run: RunDirectory) -> list[Event]:
    """All events of a run, in the order of `EVENTS`, from what is committed so far.

    Raises RecordsError where the records, or the sections `model` and `locate` of the run's config, cannot be read.
    """
    reading = Reading(run)
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
        except NotApplicableError as reason:
            events.append(Event(name, "not_applicable", str(reason)))
    return events


def _previous_token(reading: Reading) -> Event:
    heads = previous_token_heads(reading.model)
    if not heads and reading.model.n_attention == 1 and counted_heads(reading.model):
        raise NotApplicableError("one attention layer: no later one reads its heads")
    return _best_head(reading, "previous_token", "previous_token", heads, 0.0)


def _prefix_matching(reading: Reading, event: str, at_least: float) -> Event:
    return _best_head(reading, event, "prefix_matching", counted_heads(reading.model), at_least)


def _best_head(reading: Reading, event: str, measure: str, heads: frozenset[Head], at_least: float) -> Event:
    if not heads:
        clamped = reading.model.n_attention
        raise NotApplicableError("every head that counts has a clamp" if clamped else "no attention layer")
    options, null99 = reading.options, float(reading.scalar(f"null99/{measure}")["value"].iloc[0])
    scores = head_scores(reading.heads, measure).only(heads)
    if not scores.heads:
        raise NotApplicableError(f"the records hold no {measure}")
    floor = max(options.head_floor, at_least)
    threshold = max(floor, null99 + options.null_margin)
    best = finite(scores.values, measure).max(1)
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


def _copy_advantage(reading: Reading) -> Event:
    rows = reading.scalar("ordered_copy_advantage")
    pool = float(reading.info.probes["repeats"]["pool"])
    half = 0.5 * math.log(pool)
    options = reading.options
    threshold = min(options.copy_nats, half)
    values = finite(rows["value"].to_numpy(np.float64), "ordered_copy_advantage")
    crossing = first_at_least(values, threshold, options.sustain, ended=reading.ended)
    rule = (
        f"ordered_copy_advantage ≥ {threshold:.2f} nats = min({options.copy_nats:.2f}, ½ ln {pool:.0f} = {half:.2f})"
        f"{_held(options)}"
    )
    return _event("copy_advantage", rule, crossing, rows["step"].to_numpy(), rows["tokens"].to_numpy(), values)


def _icl(reading: Reading) -> Event:
    scores, steps = reading.icl_scores
    options = reading.options
    try:
        found = first_departure(
            scores,
            drop=options.icl_drop,
            standard_errors=options.icl_standard_errors,
            start=reading.out_of_warmup,
            sustain=options.sustain,
            ended=reading.ended,
        )
    except ValueError as error:
        raise NotApplicableError(str(error)) from None
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


def _describe(heads: frozenset[Head], reading: Reading) -> str:
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
