"""What Elhage et al. 2021, Olsson et al. 2022 and later papers claim, held against studies.

    python analysis/claims.py runs/smeared_keys runs/depth … [--out DIR]

Prints each claim that a study can speak to: its source, what was found with its interval, and the verdict (supported,
contradicted, not comparable, cannot tell and what it would take). Writes claims.csv and claims.md to DIR, by default to
`analysis/` in the first study. Studies must have been located (`bump locate STUDY`); claims about circuits and
ablations need `bump measure STUDY --steps last`.

A new claim is a function of a few lines in `induction_bump/linking/claims/`.
"""

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path

import command

from induction_bump.linking.claims import CLAIMS, Judged, judge, markdown, reservation, table

WIDTH = 110


def text(judged: Sequence[Judged]) -> str:
    """A paragraph a claim and study."""
    blocks = []
    for each in judged:
        finding = each.finding
        verdict = finding.verdict.upper() + (f" ({finding.needs})" if finding.needs else "")
        body = f"{each.study}, {finding.n} runs: {finding.found}"
        lines = [f"{each.claim.text} ({each.claim.source})", *(f"  {line}" for line in textwrap.wrap(body, WIDTH))]
        blocks.append("\n".join([*lines, f"  → {verdict}"]))
    silent = len(CLAIMS.keys() - {each.claim.name for each in judged})
    chance = reservation([each.finding.verdict for each in judged])
    return "\n\n".join(
        [*blocks, chance, f"{silent} of {len(CLAIMS)} claims are beyond what these studies can speak to."]
    )


def main(arguments: Sequence[str] | None = None) -> Path:
    """Judge and write; returns the path of the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+", metavar="STUDY", help="a study or a single run")
    parser.add_argument("--out", type=Path, help="where to write (default: the first STUDY/analysis)")
    chosen = parser.parse_args(arguments)
    out: Path = chosen.out or chosen.studies[0] / "analysis"
    judged = judge([command.load_located(study) for study in chosen.studies])
    print(text(judged))
    out.mkdir(parents=True, exist_ok=True)
    table(judged).to_csv(out / "claims.csv", index=False)
    (out / "claims.md").write_text(markdown(judged))
    print(f"\nwrote {out / 'claims.csv'} and .md")
    return out / "claims.csv"


if __name__ == "__main__":
    command.run(main)
