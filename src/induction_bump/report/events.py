"""Located events as a page tells them: names for people, intervals in words, the sentence at the top."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from induction_bump.locate.formats import format_ends, format_interval
from induction_bump.records.damage import warn
from induction_bump.records.derived import read_phase_changes
from induction_bump.records.directory import RunDirectory
from induction_bump.records.schema import RecordsError
from induction_bump.report.contents import RunContents

UNMARKED = ("loss_bump", "icl_further", "positions_further", "components_further")
"""Changes that are told in the table but not drawn into the figures: some are as wide as a figure."""

State = Literal["found", "at_start", "open", "not_found", "not_applicable"]
Tone = Literal["found", "none", "waiting", "failed"]

NAMES = {
    "previous_token": ("Previous-token head", "prev-token"),
    "prefix_matching": ("Induction head (prefix matching)", "prefix match"),
    "prefix_matching_strong": ("Strong prefix matching", "strong match"),
    "copy_advantage": ("Ordered copying", "copying"),
    "icl": ("In-context learning", "ICL"),
    "icl_change": ("Phase change of in-context learning", "ICL change"),
    "copy_advantage_change": ("Phase change of ordered copying", "copying change"),
    "prefix_matching_change": ("Phase change of the best head", "head change"),
    "loss_bump": ("Loss bump", "loss bump"),
}
"""Title and label of each event; others are shown by their own names."""


@dataclass(frozen=True)
class Event:
    """One row of `phase_changes`."""

    name: str
    found: bool
    tokens_low: int | None
    tokens_high: int | None
    ci_low: float | None
    """The 90 % interval of a phase change's midpoint; of an event the same as its tokens."""
    ci_high: float | None
    value_before: float | None
    value_after: float | None
    verdict: str | None
    rule: str | None

    @property
    def title(self) -> str:
        """Its name for people."""
        return NAMES.get(self.name, (self.name.replace("_", " ").capitalize(),))[0]

    @property
    def label(self) -> str:
        """Its name where there is little room."""
        return NAMES.get(self.name, ("", self.name.replace("_", " ")))[1]

    @property
    def state(self) -> State:
        """Found, there from the start (left-censored), still open (right-censored), not found, or not applicable."""
        if self.verdict == "left_censored":
            return "at_start"
        if self.found and self.tokens_high is not None:
            return "found"
        others: dict[str | None, State] = {"right_censored": "open", "not_applicable": "not_applicable"}
        return others.get(self.verdict, "not_found")

    @property
    def when(self) -> str:
        """The interval, or why there is none; of a phase change with the verdict."""
        if self.state == "found":
            interval = format_interval(self.tokens_low or 0, self.tokens_high or 0)
            return f"{interval}, {self.verdict}" if self.verdict in ("abrupt", "gradual") else interval
        if self.verdict in ("none", "undetermined"):
            return self.verdict
        if self.state == "open":
            return "open" if self.tokens_low is None else f"open, not by {tokens_text(self.tokens_low)}"
        return {"at_start": "before training", "not_applicable": "not applicable"}.get(self.state, "not found")


@dataclass(frozen=True)
class Headline:
    """What was found, in a sentence, and how it is coloured."""

    text: str
    tone: Tone


def tokens_text(tokens: float) -> str:
    """Tokens in at most three figures: 950, 8.19k, 5.2M, 1.05B."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if tokens >= size * 0.9995:
            return f"{float(f'{tokens / size:.3g}'):g}{unit}"
    return f"{tokens:.0f}"


def read(path: Path, runs: Sequence[RunDirectory]) -> dict[str, list[Event]]:
    """Events by run_id: what `path` holds, and for runs it does not name, what they hold themselves.

    A run that was located only with its study is found in the study's file. Runs that nobody located are missing. A
    RecordsWarning says where a file is damaged; it counts as none.
    """
    located = _read_file(path / "phase_changes.parquet")
    for run in runs:
        run_id = run.info.run_id
        for place in (run.path, run.path.parent):
            if run_id not in located:
                located |= {k: v for k, v in _read_file(place / "phase_changes.parquet").items() if k == run_id}
    return located


def _read_file(path: Path) -> dict[str, list[Event]]:
    located: dict[str, list[Event]] = {}
    try:
        rows = read_phase_changes(path).to_pylist() if path.is_file() else []
    except RecordsError as error:
        warn(error)
        rows = []
    for row in rows:
        located.setdefault(row["run_id"], []).append(_event(row))
    return located


def _event(row: dict[str, Any]) -> Event:
    return Event(
        name=row["event"],
        found=bool(row["found"]),
        tokens_low=row["tokens_low"],
        tokens_high=row["tokens_high"],
        ci_low=row["ci_low"],
        ci_high=row["ci_high"],
        value_before=row["value_before"],
        value_after=row["value_after"],
        verdict=row["verdict"],
        rule=row["rule"],
    )


def bump(events: Sequence[Event] | None) -> tuple[int, int] | None:
    """Tokens between which the bump lies: when in-context learning sets in, where induction heads form too."""
    by_name = {event.name: event for event in events or ()}
    icl, heads = by_name.get("icl"), by_name.get("prefix_matching")
    if icl is None or heads is None or not heads.found or icl.state != "found" or icl.tokens_high is None:
        return None
    return icl.tokens_low or 0, icl.tokens_high


def induction_heads(run: RunContents, most: int = 3) -> list[str]:
    """Names of the best heads that count as prefix-matching at the latest snapshot."""
    threshold = run.head_threshold("prefix_matching") or 0.1
    return [name for name, score in run.best_heads("prefix_matching", most) if score >= threshold]


def headline(run: RunContents, events: Sequence[Event] | None) -> Headline:
    """The sentence at the top of a run's page."""
    if run.status == "failed":
        return Headline(f"The run failed at step {run.reached:,} of {run.info.total_steps:,}", "failed")
    if found := bump(events):
        low, high = format_ends(*found)
        heads = induction_heads(run)
        named = f"; {'heads' if len(heads) > 1 else 'head'} {', '.join(heads)}" if heads else ""
        return Headline(
            f"Induction bump located between {low} and {high} tokens{named}{_phase_change(events)}", "found"
        )
    if events is None:
        state = "In progress" if run.going else "Not located yet"
        return Headline(f"{state}: the events have not been computed", "waiting")
    if run.going:
        return Headline("No induction bump so far", "waiting")
    why = "" if run.n_attention else ": the model has no attention layer"
    return Headline(f"No induction bump found{why}", "none")


def _phase_change(events: Sequence[Event] | None) -> str:
    """The verdict on in-context learning and the 90 % interval of its midpoint, where it was found."""
    change = next((event for event in events or () if event.name == "icl_change" and event.found), None)
    if change is None or change.ci_low is None or change.ci_high is None:
        return ""
    return f"; {change.verdict} change, midpoint {format_interval(change.ci_low, change.ci_high)}"


def study_headline(located: Sequence[Sequence[Event] | None]) -> Headline:
    """The sentence at the top of a study's page, from the events of each of its runs."""
    known = [events for events in located if events is not None]
    if not known:
        return Headline("Not located yet: the events have not been computed", "waiting")
    found = sum(bump(events) is not None for events in known)
    waiting = len(located) - len(known)
    runs = f"{len(known)} {'run' if len(known) == 1 else 'runs'}"
    more = f"; {waiting} not located yet" if waiting else ""
    if not found:
        return Headline(f"No induction bump found in {runs}{more}", "none")
    return Headline(f"Induction bump located in {found} of {runs}{more}", "found")
