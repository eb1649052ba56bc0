"""How often the intervals of locating hold the truth, and how often it sees changes that are not there.

    python -m benchmarks.calibration --out docs/locating

draws curves of every setting (calibration_settings.py), locates them as `bump locate` does, marks them by today's
rules (todays_rules.py), and writes `changes.csv`, a line a setting and method, and `nulls.csv`, a line a null and
method. What was found of each curve is kept in --curves, one file a setting, and not drawn again: a run that was cut
off goes on.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.calibration_settings import BETWEEN, CHANGES, FRESH, NULLS
from benchmarks.in_processes import in_processes
from benchmarks.simulated_curves import Setting, draw, random_of, truth
from benchmarks.todays_rules import LEAST_DROP, RULES
from induction_bump.locate.change import find_change
from induction_bump.locate.verdict import FOUND, judge

OURS = "ramp"
QUANTITIES = ("onset", "midpoint", "end", "width", "drop")
SETTINGS: dict[str, Setting] = {**CHANGES, **BETWEEN, **NULLS}
NAMES = (*CHANGES, *FRESH, *BETWEEN, *NULLS)
_CHUNK = 25


def locate_one(name: str, number: int) -> list[dict[str, Any]]:
    """Draw a curve of a setting and locate it by every method: a row a method."""
    random = random_of(name, number)
    setting = FRESH[name](random) if name in FRESH else SETTINGS[name]
    curve = draw(setting, random)
    change = find_change(curve, direction=-1, random=random)
    verdict, _ = judge(change, LEAST_DROP, " nats")
    ours: dict[str, Any] = {"method": OURS, "verdict": verdict, "p": change.p}
    if change.place:
        for quantity in QUANTITIES:
            interval = getattr(change.place, quantity)
            in_x = math.log if quantity in ("onset", "midpoint", "end") else float
            ours[quantity] = in_x(interval.value)
            ours[f"{quantity}_low"], ours[f"{quantity}_high"] = in_x(interval.low), in_x(interval.high)
    rows = [ours]
    for rule, mark in RULES.items():
        marked = mark(curve.x, curve.values)
        row: dict[str, Any] = {"method": rule, "verdict": "none" if marked is None else "found"}
        if marked:
            row |= {"onset": marked[0], "midpoint": sum(marked) / 2, "end": marked[1], "width": marked[1] - marked[0]}
        rows.append(row)
    return [{"setting": name, "curve": number, **_true(setting), **row} for row in rows]


def _true(setting: Setting) -> dict[str, float]:
    if setting.drift is not None:
        return {}
    known = truth(setting)
    true = {"onset": known.onset, "end": known.end, "midpoint": (known.onset + known.end) / 2}
    true |= {"width": setting.width, "drop": setting.drop}
    return {f"true_{quantity}": value for quantity, value in true.items()}


def _chunk(job: tuple[str, int, int]) -> tuple[str, list[dict[str, Any]]]:
    name, first, last = job
    return name, [row for number in range(first, last) for row in locate_one(name, number)]


def _file(directory: Path, name: str) -> Path:
    return directory / f"{name.replace(' ', '_').replace(',', '').replace('%', 'percent')}.csv"


def _jobs(directory: Path, changes: int, nulls: int) -> Iterator[tuple[str, int, int]]:
    """Curves that are not there yet, in chunks, all settings in turn so that a cut-off run is even."""
    done = {name: _done(_file(directory, name)) for name in NAMES}
    for first in range(0, max(changes, nulls), _CHUNK):
        for name in NAMES:
            wanted = nulls if name in NULLS else changes
            if done[name] <= first < wanted:
                yield name, first, min(first + _CHUNK, wanted)


def _done(file: Path) -> int:
    return int(pd.read_csv(file)["curve"].max()) + 1 if file.is_file() else 0


def simulate(directory: Path, changes: int, nulls: int, processes: int) -> None:
    """Locate so many curves of each setting, but for those that `directory` holds."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, rows in in_processes(_chunk, _jobs(directory, changes, nulls), processes):
        file = _file(directory, name)
        pd.DataFrame(rows, columns=_columns()).to_csv(file, mode="a", header=not file.is_file(), index=False)
        print(f"{name}: {rows[-1]['curve'] + 1} curves", flush=True)


def _columns() -> list[str]:
    bounds = [f"{quantity}{end}" for quantity in QUANTITIES for end in ("", "_low", "_high")]
    return ["setting", "curve", "method", "verdict", "p", *bounds, *(f"true_{quantity}" for quantity in QUANTITIES)]


def change_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line a setting and method: coverage, bias and error, and verdicts."""
    lines = []
    for (name, method), found in rows.groupby(["setting", "method"], sort=False):
        kind = "between" if name in BETWEEN else "fresh" if name in FRESH else "change"
        lines.append({"setting": name, "kind": kind, **_line(str(method), found)})
    return pd.DataFrame(lines)


def _line(method: str, found: pd.DataFrame) -> dict[str, Any]:
    line: dict[str, Any] = {"method": method, "curves": len(found)}
    placed = found[found["onset"].notna()]
    line["placed"] = len(placed) / len(found)
    for verdict in ("abrupt", "gradual", "none", "undetermined"):
        line[verdict] = (found["verdict"] == verdict).mean() if method == OURS else math.nan
    for quantity in QUANTITIES:
        true = placed[f"true_{quantity}"]
        if method == OURS:
            inside = placed[f"{quantity}_low"].le(true) & placed[f"{quantity}_high"].ge(true)
            line[f"coverage_{quantity}"] = inside.mean()
        error = placed[quantity] - true
        line[f"bias_{quantity}"], line[f"error_{quantity}"] = error.mean(), math.sqrt((error**2).mean())
    return line


def null_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line a null and method: how often a change is seen that is not there, with a 95 % Clopper–Pearson interval."""
    from scipy.stats import binomtest

    lines = []
    for (name, method), found in rows.groupby(["setting", "method"], sort=False):
        alarms, n = int(found["verdict"].isin([*FOUND, "found"]).sum()), len(found)
        low, high = binomtest(alarms, n).proportion_ci(method="exact")
        line = {"setting": name, "method": method, "curves": n, "alarms": alarms, "share": alarms / n}
        line |= {"low": low, "high": high}
        line["p_below_0.01"] = (found["p"] <= 0.01).mean() if method == OURS else math.nan
        line["undetermined"] = (found["verdict"] == "undetermined").mean() if method == OURS else math.nan
        lines.append(line)
    return pd.DataFrame(lines)


def main() -> None:
    """Simulate what is missing, then write both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--curves", type=Path, default=Path("calibration"), help="where each curve's outcome is kept")
    parser.add_argument("--changes", type=int, default=200, help="curves of each setting with a change")
    parser.add_argument("--nulls", type=int, default=1000, help="curves of each null")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    simulate(arguments.curves, arguments.changes, arguments.nulls, arguments.processes)
    files = [_file(arguments.curves, name) for name in NAMES]
    rows = pd.concat([pd.read_csv(file) for file in files if file.is_file()])
    arguments.out.mkdir(parents=True, exist_ok=True)
    of_nulls = rows["setting"].isin(NULLS)
    change_table(rows[~of_nulls]).round(4).to_csv(arguments.out / "changes.csv", index=False)
    null_table(rows[of_nulls]).round(4).to_csv(arguments.out / "nulls.csv", index=False)


if __name__ == "__main__":
    main()
