"""A figure of every family of measures, from the first run of a study with two or more attention layers.

    python analysis/measures.py runs/quickstart [--out DIR] [--scale log]

Writes one PNG and one CSV a family to DIR, by default to `analysis/measures/` in the study. What smeared keys do is
drawn from a run that has them, with as few layers as there are. Shaded: from before the first located event up to the
last. A family that the records lack is left out, and a line says so; `bump measure STUDY` takes what is missing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import command
import figures_of_heads
import figures_of_interventions
import figures_of_losses
import notation
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from measured_run import MeasuredRun, MissingError

from induction_bump.locate.run import find
from induction_bump.records.load import Records, load


@dataclass(frozen=True)
class Family:
    """One figure."""

    draw: Callable[[MeasuredRun], tuple[Figure, pd.DataFrame]]
    measures: tuple[str, ...]
    """What has to be measured for it."""
    smeared: bool = False
    """Whether it is drawn from a run with smeared keys."""


FAMILIES = {
    "ngrams": Family(figures_of_losses.ngrams, ("loss", "unigram_gap", "bigram_gap", "bigram_kl")),
    "rule": Family(
        figures_of_losses.rule, ("predictable_loss", "unpredictable_loss", "predictable_gain", "unpredictable_gain")
    ),
    "icl": Family(figures_of_losses.icl, ("icl_score", "icl_window_score", "loss_by_position")),
    "token_losses": Family(figures_of_losses.token_losses, ("token_losses",)),
    "copies": Family(figures_of_losses.copies, ("copy_advantage", "ordered_copy_advantage")),
    "attention": Family(
        figures_of_heads.attention,
        (
            "prefix_matching",
            "prefix_matching_off_by_one",
            "duplicate_token",
            "previous_token",
            "first_token",
            "null99",
        ),
    ),
    "copying": Family(figures_of_heads.copying, ("copying_eigenvalue", "copying_logit")),
    "corner": Family(figures_of_heads.corner, ("copying_eigenvalue", "qk_eigenvalue")),
    "qk_trace": Family(figures_of_heads.qk_trace, ("qk_trace",)),
    "smear": Family(figures_of_heads.smear, ("smear", "qk_trace_shifted_key", "prefix_matching"), smeared=True),
    "composition": Family(figures_of_heads.composition, ("composition_q", "composition_k", "composition_v")),
    "ablations": Family(
        figures_of_interventions.ablations, ("zero_ablation", "pattern_preserving_ablation", "mean_ablation")
    ),
    "group": Family(figures_of_interventions.group, ("group_ablation",)),
    "paths": Family(figures_of_interventions.paths, ("path_order",)),
}
"""By the name of their files."""


def choose(records: Records, *, smeared: bool) -> str | None:
    """run_id of the run that is drawn, None where there is none of the kind.

    With smeared keys the one with the fewest attention layers, else the first with two or more, one without smeared
    keys before one with them.
    """
    runs = records.runs
    layers = runs["model.sublayers"].astype(str).str.count("s")
    smears = runs["model.smeared_keys"].astype(bool)
    suited = runs[smears & (layers > 0)] if smeared else runs[layers > 1]
    order = layers if smeared else smears.astype(int)
    return None if suited.empty else str(runs.loc[order[suited.index].idxmin(), "run_id"])


def main(arguments: Sequence[str] | None = None) -> list[Path]:
    """Draw a study; returns the paths of the PNGs."""
    parser = command.parser(__doc__, "a study or a single run", "STUDY/analysis/measures")
    parser.add_argument("--scale", choices=["linear", "log"], default="linear", help="scale of the token axis")
    chosen = parser.parse_args(arguments)
    out: Path = chosen.out or chosen.study / "analysis" / "measures"
    notation.use_style()
    records, located = load(chosen.study), find(chosen.study)
    out.mkdir(parents=True, exist_ok=True)
    drawn: list[Path] = []
    for name, family in FAMILIES.items():
        run_id = choose(records, smeared=family.smeared)
        if run_id is None:
            kind = "smeared keys" if family.smeared else "two or more attention layers"
            print(f"without {name}.png: no run of {chosen.study} has {kind}")
            continue
        run = MeasuredRun(records, located, run_id, chosen.scale)
        try:
            figure, rows = family.draw(run)
        except MissingError as error:
            print(f"without {name}.png: {error}{_remedy(run, family, chosen.study)}")
            continue
        rows.to_csv(out / f"{name}.csv", index=False, float_format="%.6g")
        figure.savefig(out / f"{name}.png")
        plt.close(figure)
        drawn.append(out / f"{name}.png")
    print(f"wrote {len(drawn)} figures and their tables to {out}")
    return drawn


def _remedy(run: MeasuredRun, family: Family, study: Path) -> str:
    """Why the model cannot have the measures, or how to take them."""
    refused = [run.info.not_applicable[name] for name in family.measures if name in run.info.not_applicable]
    if refused:
        return f" ({refused[0]})"
    return f"; bump measure {study} --measures {','.join(family.measures)}"


if __name__ == "__main__":
    command.run(main)
