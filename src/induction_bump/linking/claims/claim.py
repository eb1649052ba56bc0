"""What a claim is, what can be found about it, and the rules that verdicts share.

    @claim("O22", "models of one attention layer have no abrupt change")
    def one_layer_has_none(study: Evidence) -> Finding | None:
        \"\"\"Each run of one layer with plain keys ends without the ICL event.\"\"\"
        return share_of_runs(...)

The docstring's first paragraph is the rule by which the claim is judged, and is printed with it. A check returns None
for a study that has nothing to say.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from induction_bump.linking.claims.evidence import Evidence
from induction_bump.records.load import Records, load

Verdict = Literal["supported", "contradicted", "not comparable", "cannot tell"]
Source = Literal["E21", "O22", "H24", "A25", "Ho26"]
PAPERS = {
    "E21": "Elhage et al. 2021",
    "O22": "Olsson et al. 2022",
    "H24": "Hoogland et al. 2024",
    "A25": "Aoyama et al. 2025",
    "Ho26": "Howe 2026",
}
LEVEL = 0.9
"""Of two-sided intervals: 95 % on either side."""
ENOUGH_RUNS = 5
"""Runs that, if all agree, put the lower 95 % bound of the share of runs above one half (0.05^(1/5) = 0.55)."""


@dataclass(frozen=True)
class Finding:
    """What one study says about a claim."""

    verdict: Verdict
    found: str
    """In words, with intervals."""
    n: int
    """Runs that it rests on."""
    needs: str = ""
    """What it would take to tell."""


Check = Callable[[Evidence], Finding | None]


@dataclass(frozen=True)
class Claim:
    """A statement of a paper that records can be held against."""

    name: str
    source: Source
    text: str
    rule: str
    check: Check


@dataclass(frozen=True)
class Judged:
    """A claim and what a study says about it."""

    claim: Claim
    study: str
    finding: Finding


CLAIMS: dict[str, Claim] = {}
"""All claims, by name."""


def claim(source: Source, text: str) -> Callable[[Check], Check]:
    """Add a claim; the function's docstring must begin with the rule."""

    def register(check: Check) -> Check:
        name, rule = getattr(check, "__name__", ""), " ".join((check.__doc__ or "").split("\n\n")[0].split())
        assert name not in CLAIMS, f"the claim {name} is there twice"
        assert rule, f"{name}: the docstring says how the claim is judged"
        CLAIMS[name] = Claim(name, source, text, rule, check)
        return check

    return register


def judge(studies: Iterable[Path | str | Records]) -> list[Judged]:
    """Hold every claim against every study that can speak to it, in the order of the claims.

    Raises RecordsError where a study cannot be read.
    """
    evidence = [Evidence(study if isinstance(study, Records) else load(study)) for study in studies]
    return [
        Judged(each, study.name, finding)
        for each in CLAIMS.values()
        for study in evidence
        if (finding := each.check(study)) is not None
    ]


def table(judged: Sequence[Judged]) -> pd.DataFrame:
    """One row a claim and study: claim, source, statement, study, runs, found, verdict, needs, rule."""
    columns = ["claim", "source", "statement", "study", "runs", "found", "verdict", "needs", "rule"]
    rows = [
        (
            each.claim.name,
            each.claim.source,
            each.claim.text,
            each.study,
            each.finding.n,
            each.finding.found,
            each.finding.verdict,
            each.finding.needs,
            each.claim.rule,
        )
        for each in judged
    ]
    return pd.DataFrame(rows, columns=columns)


def reservation(verdicts: Sequence[Verdict]) -> str:
    """What chance makes of so many verdicts, each of which has a chance of (1 − LEVEL)/2 to be wrong on either side."""
    judged = len(verdicts) - verdicts.count("not comparable")
    side = (1 - LEVEL) / 2
    return (
        f"{judged} verdicts were judged, each by itself at {100 * side:.2g} % a side and uncorrected for their number: "
        f"by chance alone up to {side * judged:.1f} would come out supported, and as many contradicted."
    )


def markdown(judged: Sequence[Judged]) -> str:
    """A table for people, with a word on chance above it, the rules and the claims no study here speaks to below."""
    chance = reservation([each.finding.verdict for each in judged])
    lines = [chance, "", "| claim | source | study | found | verdict |", "|---|---|---|---|---|"]
    for each in judged:
        finding = each.finding
        verdict = f"**{finding.verdict}**" + (f": {finding.needs}" if finding.needs else "")
        cells = (each.claim.text, each.claim.source, f"{each.study} ({finding.n} runs)", finding.found, verdict)
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    spoken = {each.claim.name: each.claim for each in judged}
    lines += ["", "How each was judged:", ""]
    lines += [f"- {each.text}: {_lower(each.rule)}" for each in spoken.values()]
    silent = [each for name, each in CLAIMS.items() if name not in spoken]
    if silent:
        lines += ["", "Claims that no study here can speak to:", ""]
        lines += [f"- {each.text} ({each.source})" for each in silent]
    used = sorted({each.source for each in CLAIMS.values()})
    lines += ["", "Sources: " + "; ".join(f"{source}, {PAPERS[source]}" for source in used) + "."]
    return "\n".join(lines) + "\n"


def _lower(text: str) -> str:
    return text if text[:3].isupper() else text[:1].lower() + text[1:]


def share_of_runs(
    happened: Sequence[bool], what: str, note: str = "", *, undecided: int = 0, level: float = LEVEL
) -> Finding | None:
    """For claims that each run does something: is it a majority of runs like these, and not by luck?

    Supported where the lower 95 % bound (Clopper and Pearson) of the share of runs that do lies above one half,
    contradicted where the upper bound lies below. Both must hold whatever `undecided` further runs do, since which ones
    are left open may depend on what they do. None without runs. what: what they do, such as `have a bump`; level: that
    of the two-sided interval.
    """
    n, k = len(happened), sum(happened)
    if not n + undecided:
        return None
    low, high = _bounds(k, n + undecided, level)[0], _bounds(k + undecided, n + undecided, level)[1]
    shown = f"{k} of {n} runs {what} ({100 * level:.3g} % interval of the share {low:.2f}–{high:.2f})"
    found = shown + left_open(undecided) + note
    if low > 0.5:
        return Finding("supported", found, n)
    if high < 0.5:
        return Finding("contradicted", found, n)
    if undecided:
        return Finding("cannot tell", found, n, "finer snapshots or less noise, as runs are left open")
    needs = f"at least {ENOUGH_RUNS} runs that agree" if n < ENOUGH_RUNS else "more runs, as they disagree"
    return Finding("cannot tell", found, n, needs)


def _bounds(k: int, n: int, level: float) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(k, n).proportion_ci(level, "exact")
    return float(interval.low), float(interval.high)


def left_open(runs: int) -> str:
    """A note on runs of which the records do not say."""
    return f"; left open in {runs} more, which may do either" if runs else ""


Judge = Callable[[list[str], float], Finding | None]
"""What the runs of one cell say, with intervals of this level; None where they say nothing."""


def over_cells(study: Evidence, runs: Iterable[str], judge_cell: Judge) -> Finding | None:
    """For claims about models as they are: judge each cell by itself, and let the least favourable one decide.

    Supported where each cell supports; contradicted where one contradicts at 0.05 divided by the number of cells. A
    figure that is only shown is that of the plainest cell, or of the one with most runs. None where no cell says
    anything.
    """
    chosen = set(runs)
    cells = {name: own for name in study.cells.names if (own := [r for r in study.cells.runs(name) if r in chosen])}
    found = {name: finding for name, own in cells.items() if (finding := judge_cell(own, LEVEL)) is not None}
    if len(found) < 2:
        return next(iter(found.values()), None)
    n = sum(finding.n for finding in found.values())
    if all(finding.verdict == "not comparable" for finding in found.values()):
        plainest = study.cells.plainest()
        name = plainest if plainest in found else max(found, key=lambda cell: found[cell].n)
        return replace(found[name], found=f"{found[name].found}; of {name}, one of {len(found)} cells")
    strict = {name: judge_cell(cells[name], 1 - (1 - LEVEL) / len(found)) for name in found}
    against = {name for name, finding in strict.items() if finding and finding.verdict == "contradicted"}
    order = ("contradicted", "cannot tell", "supported")
    name = min(found, key=lambda cell: (cell not in against, order.index(found[cell].verdict), found[cell].n))
    worst = found[name]
    text = f"{worst.found}; that is {name}, the least favourable of {len(found)} cells"
    if name in against:
        return Finding("contradicted", text, n)
    if worst.verdict == "supported":
        return Finding("supported", text, n)
    return Finding("cannot tell", text, n, worst.needs or "more seeds a cell, as one among many may differ by chance")


def within(low: float, high: float, least: float, most: float) -> Verdict:
    """Supported where the interval (low, high) lies within [least, most], contradicted where it lies outside."""
    if least <= low and high <= most:
        return "supported"
    return "contradicted" if high < least or low > most else "cannot tell"


def joint(verdicts: Iterable[Verdict]) -> Verdict:
    """Of a claim with several parts: contradicted where a part is, supported where each is."""
    of_parts = set(verdicts)
    if "contradicted" in of_parts:
        return "contradicted"
    return "supported" if of_parts == {"supported"} else "cannot tell"


def not_comparable(found: str, n: int, why: str) -> Finding:
    """A figure that depends on the data, shown beside ours."""
    return Finding("not comparable", found, n, why)
