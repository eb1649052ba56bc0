"""The tables of docs/results/, from what the studies keep."""

from pathlib import Path

import pandas as pd

from benchmarks.markdown import table
from induction_bump.locate.formats import format_tokens
from induction_bump.locate.located import LocatedRun
from induction_bump.locate.run import find
from induction_bump.records.cells import cells
from induction_bump.records.load import load

STUDIES = ("smeared_keys", "clamps", "depth", "sublayer_order", "batch_context", "repeat_share")
_EVENTS = ("previous_token", "prefix_matching", "copy_advantage", "icl")
_MODELS = {"ss": "two layers", "s": "one layer", "s, smeared keys": "one layer, smeared keys"}
_INDUCTION_HEAD = 0.3
"""Prefix matching from which a head counts as one."""
_MARKS = {"supported": "✓", "contradicted": "✗", "cannot tell": "?", "not comparable": "–"}


def of_studies(docs: Path) -> dict[str, str]:
    """The tables of docs/results/studies.md by name."""
    kept = docs / "results" / "studies"
    return {
        "shares of copies": shares_of_copies(
            pd.read_csv(kept / "repeat_share-cells.csv"), pd.read_csv(kept / "repeat_share-treatments.csv")
        ),
        "claims": verdicts(pd.read_csv(kept / "claims.csv")),
    }


def of_quickstart(docs: Path) -> dict[str, str]:
    """The tables of docs/results/README.md by name."""
    kept = docs / "results" / "records" / "quickstart"
    return {"seeds": events_by_seed(kept), "at the end": at_the_end(kept)}


def events_by_seed(study: Path) -> str:
    """A row a run: between which snapshots each event was located. Seeds for which that is the same are together."""
    runs = {run.run_id: run for run in find(study).runs}
    records = load(study)
    seed, by_cell = records.runs.set_index("run_id")["seed.init"], cells(records.runs)
    rows: list[list[str]] = []
    for cell, model in _MODELS.items():
        seeds: dict[tuple[str, ...], list[int]] = {}
        for run_id in sorted(by_cell.runs(cell), key=lambda run: int(seed[run])):
            seeds.setdefault(tuple(_when(runs[run_id], event) for event in _EVENTS), []).append(int(seed[run_id]))
        rows += [[model, ", ".join(map(str, each)), *when] for when, each in seeds.items()]
    return table(["model", "seed", *(f"`{event}`" for event in _EVENTS)], rows)


def _when(run: LocatedRun, name: str) -> str:
    event = run.event(name)
    if event.verdict != "found":
        return event.verdict.replace("_", " ")
    low, high = event.interval
    return f"{low.tokens / 1e6:.2f}M–{high.tokens / 1e6:.2f}M"


def at_the_end(study: Path) -> str:
    """A row a model: the least and most of its seeds."""
    records = load(study)
    by_cell = cells(records.runs)
    last = {run.info.run_id: run.info.total_steps for run in records.directories}
    scalars, heads = (rows[rows["step"] == rows["run_id"].map(last)] for rows in (records.scalars, records.heads))
    rows = []
    for cell, model in _MODELS.items():
        runs = by_cell.runs(cell)
        score, copied = (
            scalars[(scalars["name"] == name) & scalars["run_id"].isin(runs)]["value"]
            for name in ("icl_window_score", "ordered_copy_advantage")
        )
        matching, previous = (
            heads[(heads["measure"] == name) & heads["run_id"].isin(runs)].set_index("run_id")["value"]
            for name in ("prefix_matching", "previous_token")
        )
        induction = matching[matching >= _INDUCTION_HEAD]
        counts = induction.groupby(level=0).size().reindex(runs, fill_value=0)
        best = (each.groupby(level=0).max() for each in (matching, previous))
        rows.append([model, *map(_range, (score, copied)), _range(counts, 0), *map(_range, (induction, *best))])
    columns = ["ICL window score", "ordered copy advantage", "induction heads", "their prefix matching"]
    return table(["model", *columns, "best prefix matching", "best previous-token head"], rows)


def _range(values: pd.Series, digits: int = 2) -> str:
    if values.empty:
        return ""
    low, high = (f"{value:.{digits}f}".replace("-", "−") for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def verdicts(claims: pd.DataFrame) -> str:
    """A row a claim, a column a study."""
    marks = claims.assign(mark=claims["verdict"].map(_MARKS)).pivot(index="claim", columns="study", values="mark")
    rows = [
        [claim.statement, claim.source, *marks.loc[claim.claim].reindex(STUDIES).fillna("")]
        for claim in claims.drop_duplicates("claim").itertuples()
    ]
    return table(["claim", "", *(f"`{study}`" for study in STUDIES)], rows)


def shares_of_copies(cells: pd.DataFrame, treatments: pd.DataFrame) -> str:
    """A row a share: the median time of its bump, and its ratio to the time with the largest share."""
    medians = cells[cells["event"] == "icl_change"].assign(share=cells["cell"].str.extract(r"([\d.]+)$")[0])
    rows = []
    for cell in medians.merge(treatments, how="left", on="cell").sort_values("share", ascending=False).itertuples():
        median, low, high = (format_tokens(t, 3) for t in (cell.median, cell.median_low, cell.median_high))
        when = f"{median} [{low}, {high}]" if cell.found else f"in none of {cell.runs} runs"
        ratio = f"{cell.ratio:.2f} [{cell.ratio_low:.2f}, {cell.ratio_high:.2f}]" if cell.ratio > 0 else ""
        rows.append([cell.share, when, ratio if cell.found else f"at least {cell.ratio_low:.2f}"])
    return table(["share", "bump, tokens [90 % interval of the median]", "ratio to 0.9 [95 %]"], rows)
