"""Events, changes and cells as aligned lines for people."""

from collections.abc import Sequence

from induction_bump.locate.cell import Cell
from induction_bump.locate.changes import LocatedChange
from induction_bump.locate.events import Event
from induction_bump.locate.formats import format_interval, format_median, format_tokens, format_variation
from induction_bump.locate.placing import Range

_MOST_HEADS = 4
"""Heads named in the text; the rest are counted."""


def block(name: str, status: str, tokens: int, events: Sequence[Event], changes: Sequence[LocatedChange]) -> str:
    """A run: a line an event, then a line a change with the rule that decided it."""
    head = f"{name} ({status}, {format_tokens(tokens, 3)} tokens)"
    lines = aligned([("event", "verdict", "tokens", "value", "heads"), *(_event_line(e) for e in events)])
    if changes:
        titles = ("change", "verdict", "onset–end", "midpoint (90 %)", "ln(end/onset)", "drop", "share")
        lines += aligned([titles, *(_change_line(c) for c in changes)])
        lines += [f"  {c.event}: {c.rule}" for c in changes]
    return "\n".join([head, *lines])


def cell_block(cells: Sequence[Cell]) -> str:
    """A study: when the runs of each cell change, a line a cell and event that some run has, and for `icl_change`."""
    titles = ("cell", "event", "found/none/undetermined", "median over seeds (90 %)", "CV")
    told = [c for c in cells if c.found or c.event == "icl_change"]
    lines = [
        (
            c.cell,
            c.event,
            f"{c.found}/{c.without}/{c.undetermined}",
            format_median(c.median, c.low, c.high),
            format_variation(c.cv, c.cv_low, c.cv_high),
        )
        for c in told
    ]
    return "\n".join(["Over seeds", *aligned([titles, *lines])])


def aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of cells as lines of columns."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return ["  " + "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]


def _event_line(event: Event) -> tuple[str, ...]:
    last = event.rule if event.verdict == "not_applicable" else describe_heads(event, _MOST_HEADS)
    return event.name, event.verdict.replace("_", " "), describe_interval(event), _describe_values(event), last


def _change_line(located: LocatedChange) -> tuple[str, ...]:
    verdict = located.verdict.replace("_", " ")
    place = located.change.place if located.change else None
    if place is None:
        between = format_interval(located.low.tokens, located.high.tokens) if located.low and located.high else "–"
        return located.event, verdict, between, "–", "–", "–", "–"
    return (
        located.event,
        verdict,
        format_interval(place.onset.value, place.end.value),
        format_interval(place.midpoint.low, place.midpoint.high),
        _estimate(place.width),
        _estimate(place.drop),
        "–" if place.share is None else _estimate(place.share),
    )


def _estimate(interval: Range) -> str:
    return f"{interval.value:.2f} ({interval.low:.2f}…{interval.high:.2f})"


def describe_interval(event: Event) -> str:
    """When it happened, in words and tokens."""
    if event.verdict == "left_censored":
        return "before training"
    if event.low and event.high:
        return format_interval(event.low.tokens, event.high.tokens)
    if event.low:
        return f"after {format_tokens(event.low.tokens)}"
    return "–"


def _describe_values(event: Event) -> str:
    if event.after is None:
        return "–"
    return f"{event.after:.2f}" if event.before is None else f"{event.before:.2f} → {event.after:.2f}"


def describe_heads(event: Event, most: int, what: str = "") -> str:
    """The heads that carry an event, best first: `L1H0 0.02 → 0.84`; with `what`, `L1H0 (what 0.02 → 0.84)`."""
    shown = [(h.name, f"{h.before:.2f} → {h.after:.2f}") for h in event.heads[:most]]
    parts = [f"{name} ({what} {scores})" if what else f"{name} {scores}" for name, scores in shown]
    more = len(event.heads) - most
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")
