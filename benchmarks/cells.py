"""How often the intervals over seeds hold the median and the spread of the times that cells are drawn from.

    python -m benchmarks.cells --out docs/locating

draws cells of log-normal times, lets each run say of its own what locating would (a place with an error, the two
snapshots between which an event lies, or that it ended without), fits them as `bump locate` fits cells, and writes
`cells.csv`, a line a setting.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.in_processes import in_processes
from benchmarks.simulated_curves import random_of
from induction_bump.locate.cell import fit_cell
from induction_bump.locate.sighting import Sighting

MEDIAN, SPREAD = 14.0, 0.1
"""Of ln(tokens)."""
_LONG = MEDIAN + 5 * SPREAD
"""ln(tokens) of a training that is long enough."""
_STDERRS = 1.645
"""To either side, that make a 90 % interval."""
_VARIED = math.log(1.5)
"""By how much, to either side in ln, errors differ between runs."""
_CHUNK = 40
COUNTS = ("cells", "medians", "medians_held", "spreads", "spreads_held", "spreads_above_0")
"""Cells of a setting; with an interval of the median, and with one that holds it; with an interval of the spread, with
one that holds it, and with one that does not begin at 0."""


@dataclass(frozen=True)
class Setting:
    """What is known of runs."""

    known: str
    """`placed` with an error, or `between` two snapshots."""
    size: float
    """Of the standard error, or of the distance between snapshots, in spreads."""
    censored: float
    """Share of runs that are too short, in the long run."""
    runs: int

    @property
    def name(self) -> str:
        """What its draws are made from."""
        return f"{self.known} {self.size:g}, {self.censored:g} of {self.runs}"


SETTINGS = [
    Setting(known, size, censored, runs)
    for known, sizes in {"placed": (0, 0.5, 1, 2), "between": (1, 2.5)}.items()
    for size, censored, runs in product(sizes, (0, 0.25, 0.5), (3, 6, 16))
]


def draw(setting: Setting, random: np.random.Generator) -> list[Sighting]:
    """What the runs of one cell say. Its trainings are equally long, and its snapshots the same."""
    from scipy.stats import norm

    times = MEDIAN + SPREAD * random.standard_normal(setting.runs)
    end = MEDIAN + SPREAD * float(norm.isf(setting.censored)) if setting.censored else _LONG
    size = SPREAD * setting.size
    if setting.known == "placed":
        stderrs = size * np.exp(random.uniform(-_VARIED, _VARIED, setting.runs))
        middles, reach = times + stderrs * random.standard_normal(setting.runs), _STDERRS * stderrs
        intervals = np.exp([middles - reach, middles + reach]).T.tolist()
        seen = [Sighting(high=math.exp(end), placed=(low, high)) for low, high in intervals]
    else:
        first = size * random.random()
        before = first + size * np.floor((times - first) / size)
        seen = [Sighting(math.exp(low), math.exp(min(low + size, end))) for low in before]
    return [one if time <= end else Sighting(math.exp(end)) for one, time in zip(seen, times, strict=True)]


def fitted(job: tuple[int, int, int]) -> tuple[int, dict[str, int]]:
    """Of some cells of a setting, of how many median and spread are told, and of how many of these they are held."""
    place, first, last = job
    setting, cv = SETTINGS[place], math.sqrt(math.expm1(SPREAD**2))
    counts = dict.fromkeys(COUNTS, 0)
    for number in range(first, last):
        cell = fit_cell("", "", draw(setting, random_of(setting.name, number)))
        counts["cells"] += 1
        if cell.low is not None and cell.high is not None:
            counts["medians"] += 1
            counts["medians_held"] += cell.low <= math.exp(MEDIAN) <= cell.high
        if cell.cv_low is not None and cell.cv_high is not None:
            counts["spreads"] += 1
            counts["spreads_held"] += cell.cv_low <= cv <= cell.cv_high
            counts["spreads_above_0"] += cell.cv_low > 0
    return place, counts


def cell_table(counted: Sequence[tuple[int, dict[str, int]]]) -> pd.DataFrame:
    """A line a setting, of all that was counted of it."""
    counts = pd.DataFrame([{"place": place, **counts} for place, counts in counted]).groupby("place").sum()
    return pd.DataFrame([vars(SETTINGS[place]) for place in counts.index]).join(counts.reset_index(drop=True))


def main() -> None:
    """Draw, fit and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=1000, help="of each setting")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    starts = range(0, arguments.cells, _CHUNK)
    jobs = [(place, i, min(i + _CHUNK, arguments.cells)) for place in range(len(SETTINGS)) for i in starts]
    counted = []
    for place, counts in in_processes(fitted, jobs, arguments.processes):
        counted.append((place, counts))
        print(f"{SETTINGS[place].name}: {counts}", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    cell_table(counted).to_csv(arguments.out / "cells.csv", index=False)


if __name__ == "__main__":
    main()
