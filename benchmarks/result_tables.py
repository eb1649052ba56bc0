"""The tables of docs/results/, from what the studies keep."""

from pathlib import Path

import pandas as pd

from benchmarks.markdown import table
from induction_bump.locate.formats import format_tokens

STUDIES = ("smeared_keys", "clamps", "depth", "sublayer_order", "batch_context", "repeat_share")
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
