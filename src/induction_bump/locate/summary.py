"""A study's runs in a sentence each: where the bump is, which heads made it, and where there is none."""

from collections import Counter
from pathlib import Path

from induction_bump.locate.events import NO_SNAPSHOT, Event
from induction_bump.locate.formats import format_ends, format_tokens
from induction_bump.locate.located import Located, LocatedRun
from induction_bump.locate.run import find
from induction_bump.locate.text import describe_heads, describe_interval

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_MOST_HEADS = 3


def bump_summary(study: Path | str) -> str:
    """What the events say about each run of a study, a line a run, from its records; writes nothing.

    A run has the bump where its in-context learning (`icl`) and its heads (`prefix_matching`) both cross; the time is
    that of `icl`. Others are called earlier or later than the run with the most attention layers and plain keys, where
    their intervals do not overlap. Raises RecordsError where `study` cannot be read.
    """
    return summarise(find(study))


def summarise(located: Located) -> str:
    """The same for events that are found already."""
    names = _names(located)
    with_bump = [run for run in located.runs if _has_bump(run)]
    reference = max(with_bump, key=_plainness, default=None)
    rest = [run for run in located.runs if run is not reference]
    first = [f"Bump located in the {names[reference.run_id]}: {_bump(reference)}"] if reference else []
    return "\n".join([*first, *(_compared(run, names[run.run_id], reference) for run in rest)])


def _has_bump(run: LocatedRun) -> bool:
    return run.event("icl").found and run.event("prefix_matching").found


def _plainness(run: LocatedRun) -> tuple[bool, int]:
    return not run.model.smeared_keys, run.model.n_attention


def _compared(run: LocatedRun, name: str, reference: LocatedRun | None) -> str:
    if reference and _has_bump(run):
        return f"{_when(run.event('icl'), reference.event('icl'))} in the {name}: {_bump(run)}"
    icl, heads = run.event("icl"), run.event("prefix_matching")
    if icl.rule == NO_SNAPSHOT:
        return f"Nothing measured yet in the {name} ({run.status})"
    unknown = icl.verdict == "not_applicable"
    best = "" if heads.after is None else f" (best head's prefix matching at the end: {heads.after:.2f})"
    if icl.found or heads.found:
        change = f"in-context learning is unknown: {icl.rule}" if unknown else "no change of in-context learning"
        there, missing = (icl, "no induction head") if icl.found else (heads, change)
        return f"Half a bump in the {name}: {there.name} at {describe_interval(there)} tokens, but {missing}{best}"
    if unknown:
        return f"Unknown in the {name}: {icl.rule}{best}"
    if "right_censored" in (icl.verdict, heads.verdict):
        return f"No bump so far in the {name}: {run.status}, read up to {format_tokens(run.tokens)} tokens{best}"
    return f"None in the {name}{best}"


def _when(event: Event, reference: Event) -> str:
    (low, high), (reference_low, reference_high) = event.interval, reference.interval
    if high.tokens <= reference_low.tokens:
        return "An earlier one"
    return "A later one" if low.tokens >= reference_high.tokens else "One at about the same time"


def _bump(run: LocatedRun) -> str:
    icl, heads = run.event("icl"), run.event("prefix_matching")
    low, high = format_ends(*(moment.tokens for moment in icl.interval))
    carried_by = describe_heads(heads, _MOST_HEADS, "prefix matching")
    return f"between {low} and {high} tokens; induction heads {carried_by or 'none left at the end'}"


def _names(located: Located) -> dict[str, str]:
    """run_id → what a run is called: by its model, and by its directory too where several share a model."""
    described = {run.run_id: _describe(run) for run in located.runs}
    shared = Counter(described.values())
    return {
        run.run_id: name if shared[name := described[run.run_id]] == 1 else f"{name} {run.run.name}"
        for run in located.runs
    }


def _describe(run: LocatedRun) -> str:
    layers = run.model.n_attention
    number = _NUMBERS[layers] if layers < len(_NUMBERS) else str(layers)
    smeared = "smeared-keys " if run.model.smeared_keys and layers else ""
    return f"{smeared}{number}-layer run{' with MLPs' if 'f' in run.model.sublayers else ''}"
