"""What a study's page says beyond single runs: which event came first, what treatments did, and what papers claim."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from induction_bump.linking.claims import Judged, judge, reservation
from induction_bump.linking.claims.evidence import Evidence
from induction_bump.linking.treatments import Effect
from induction_bump.locate.formats import format_tokens
from induction_bump.records.load import Records
from induction_bump.report.markup import anchor, table
from induction_bump.report.times import times_figure

Section = tuple[str, str]
"""Title and HTML."""
_PAIR_TITLES = {
    ("previous_token", "prefix_matching"): "prefix matching after previous token",
    ("previous_token", "icl"): "in-context learning after previous token",
    ("prefix_matching", "icl"): "in-context learning after prefix matching",
}
_QUANTITIES = {"icl_window_score": "in-context learning", "ordered_copy_advantage": "ordered copying"}
_NONE = "–"


def study_sections(records: Records) -> list[Section]:
    """The sections that the records of a located study have something for, in order."""
    if records.phase_changes.empty:
        return []
    evidence = Evidence(records)
    parts = {
        "What came first": _lags(evidence),
        "Without the induction heads": _shares(evidence),
        "Treatments": _treatments(evidence) if len(evidence.cells.names) > 1 else None,
        "Published claims": _claims(judge([records]), records.path),
    }
    return [
        (title, f'<section class="card table" id="{anchor(title)}"><h2>{title}</h2>{html}</section>')
        for title, html in parts.items()
        if html
    ]


def _rows(heads: Sequence[str], rows: Iterable[Sequence[str]], label: str) -> str:
    """A table whose first column names the row; its texts are escaped here."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f'<td data-label="{escape(h)}">{escape(text)}</td>' for h, text in zip(heads[1:], rest, strict=True))
        + "</tr>"
        for first, *rest in rows
    )
    return table("study", head, body, label)


def _note(text: str, command: str = "") -> str:
    how = f" <code>{escape(command)}</code>" if command else ""
    return f'<p class="note">{escape(text)}{how}</p>'


def _lags(evidence: Evidence) -> str | None:
    """By cell and pair of events: in how many runs each came first, and by how much."""
    rows = evidence.lags.query("source == 'event'")
    if rows.empty:
        return None
    rows = rows.assign(cell=evidence.cells.table["cell"].reindex(rows["run_id"]).to_numpy())
    rows = rows.sort_values("cell", key=lambda names: names.map(evidence.cells.names.index), kind="stable")
    lines = []
    for _, own in rows.groupby(["cell", "first", "second"], sort=False):
        cell, first, second = own[["cell", "first", "second"]].iloc[0]
        order = own["order"].value_counts()
        counts = [str(order.get(name, 0)) for name in ("after", "together", "before")]
        lines.append((str(cell), _PAIR_TITLES[str(first), str(second)], *counts, _ratios(own)))
    heads = ("Cell", "Lag", "After", "Cannot tell", "Before", "Ratio of tokens, over runs")
    note = (
        "Runs in which the second event came after the first, before it, or within snapshots too far apart to tell. "
        "The ratio is that of the middles of the intervals, least and most over runs."
    )
    return _rows(heads, lines, "What came first") + _note(note)


def _ratios(own: pd.DataFrame) -> str:
    ratios = np.exp(own["log_ratio"].dropna().to_numpy(np.float64))
    if not len(ratios):
        return _NONE
    middle = f"{np.median(ratios):.2f}"
    return middle if len(ratios) == 1 else f"{middle} ({ratios.min():.2f} to {ratios.max():.2f})"


def _shares(evidence: Evidence) -> str | None:
    """By run: what is lost without its induction heads at the end, and without matched ones."""
    if evidence.shares.empty:
        return None
    lines = []
    for row in evidence.shares.to_dict("records"):
        share = _NONE if np.isnan(row["share"]) else f"{row['share']:.0%} ± {row['share_stderr']:.0%}"
        if row["draws"]:
            beside = f"{row['matched']:.2f} ({row['matched_low']:.2f} to {row['matched_high']:.2f})"
        else:
            beside = "no heads are left to match"
        lost = f"{row['lost']:.2f} of {abs(row['intact']):.2f}"
        name = str(evidence.runs.at[row["run_id"], "run"])
        lines.append((name, _QUANTITIES[row["quantity"]], format_tokens(row["tokens"]), lost, share, beside))
    heads = ("Run", "Quantity", "At", "Lost, nats", "Share", "Lost without matched heads, nats")
    note = (
        "All of them ablated together, with attention patterns kept. Matched sets are as many heads of the same layers."
    )
    return _rows(heads, lines, "Without the induction heads") + _note(note)


def _treatments(evidence: Evidence) -> str | None:
    """When each cell has the bump, and each against its reference."""
    effects = evidence.effects
    if not effects:
        return None
    lines = [
        (
            effect.cell,
            effect.reference,
            f"{_runs(effect.n, effect.censored, effect.before)} against "
            f"{_runs(effect.n_reference, effect.censored_reference, effect.before_reference)}",
            _interval(effect),
            _NONE if effect.test is None else f"{effect.p_holm:.2g}",
            effect.direction,
        )
        for effect in effects
    ]
    heads = ("Cell", "Against", "Runs", "Ratio of times", "p", "The bump comes")
    note = (
        "Time of the change of in-context learning. Runs are the unit: exact permutation tests, in pairs of equal "
        "seeds where these can reach 0.05, corrected for all comparisons of the study (Holm). In brackets: the 95 % "
        "interval, or, where times of runs are only bounded, the range of the ratios of pairs of runs."
    )
    drawn = times_figure(evidence.times(), evidence.cells, evidence.runs["run"].to_dict())
    legend = "A dot a run, over training tokens; the line is the geometric mean of a cell. " if drawn else ""
    legend += "An arrow is a run of which only a bound is known. " if "<path" in drawn else ""
    return drawn + _rows(heads, lines, "Treatments") + _note(legend + note)


def _runs(n: int, censored: int, before: int) -> str:
    parts = [f"{count} {what}" for count, what in ((censored, "without"), (before, "from the start")) if count]
    return f"{n} ({', '.join(parts)})" if parts else str(n)


def _interval(effect: Effect) -> str:
    if np.isnan(effect.ratio):
        return _NONE
    if np.isnan(effect.ratio_low):
        return f"{effect.ratio:.2f}"
    low, high = ("∞" if np.isinf(end) else f"{end:.2f}" for end in (effect.ratio_low, effect.ratio_high))
    what = "" if effect.interval == "95 %" else f" ({effect.interval})"
    return f"{'∞' if np.isinf(effect.ratio) else f'{effect.ratio:.2f}'} [{low}, {high}]{what}"


def _claims(judged: Sequence[Judged], study: Path) -> str | None:
    """What papers say, what this study finds, and the verdict."""
    if not judged:
        return None
    lines = [
        (
            f"{each.claim.text} ({each.claim.source})",
            each.finding.found,
            each.finding.verdict + (f": {each.finding.needs}" if each.finding.needs else ""),
        )
        for each in judged
    ]
    chance = reservation([each.finding.verdict for each in judged])
    return _rows(("Claim", "Found here", "Verdict"), lines, "Published claims") + _note(
        f"{chance} E21: Elhage et al. 2021; O22: Olsson et al. 2022; H24: Hoogland et al. 2024; "
        "A25: Aoyama et al. 2025; Ho26: Howe 2026. The rules of the verdicts, and several studies at once:",
        f"python analysis/claims.py {study}",
    )
