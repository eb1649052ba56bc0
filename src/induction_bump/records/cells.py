"""Which runs of a study repeat each other, and which differ by what: cells, their names, and the plainest of them.

A cell is a set of runs that were trained alike but for their seeds. Statistics over seeds stay within a cell; what is
compared between cells is the cell's treatment (docs/linking.md#runs-are-the-unit).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

TRAINED_BY = ("model.", "data.", "training.")
"""Sections of the config that shape a training. Probes, snapshots, devices and tracking only look at it."""
TREATMENTS: Mapping[str, Any] = {"model.smeared_keys": False, "model.clamps": []}
"""Interventions → what leaves them out."""
_CLAMPED = {
    "previous": "pulled to the previous token",
    "second_previous": "pulled to the token before it",
    "first": "pulled to the first token",
    "zero": "held at zero",
}
_SHORT = {"data.context": "context", "training.batch_sequences": "batch", "training.learning_rate": "learning rate"}
_TWO_LAYERS = 2


@dataclass(frozen=True)
class Cells:
    """The cells of some runs."""

    table: pd.DataFrame
    """One row a run, indexed by run_id: `cell` (its name), `seed`, and a column a setting that varies."""
    varied: tuple[str, ...]
    """Settings in which the runs differ, by dotted key."""

    @property
    def names(self) -> list[str]:
        """Names of the cells, in the order of their runs."""
        return list(dict.fromkeys(self.table["cell"]))

    def settings(self, cell: str) -> dict[str, Any]:
        """What `varied` is in one cell."""
        return {key: self.table.at[self.runs(cell)[0], key] for key in self.varied}

    def runs(self, cell: str) -> list[str]:
        """run_id of each run of one cell."""
        return [str(run_id) for run_id in self.table.query("cell == @cell").index]

    def plainest(self) -> str:
        """The cell that others are compared with unless one is named.

        Without smeared keys or clamps, then two layers of attention, then attention and feed-forward in turns.
        """
        rows = {str(row["cell"]): row for row in self.table.to_dict("records")}
        return min(self.names, key=lambda cell: _plainness(rows[cell]))

    def reference_of(self, cell: str, plainest: str) -> str | None:
        """The cell that `cell` is compared with: the same without its interventions where the study has that, else
        `plainest`; None for `plainest` itself."""
        own = self.settings(cell)
        without = own | {key: none for key, none in TREATMENTS.items() if key in own}
        if without != own:
            for other in self.names:
                if self.settings(other) == without:
                    return other
        return None if cell == plainest else plainest


def cells(runs: pd.DataFrame) -> Cells:
    """Sort runs (rows of `records.runs`) into cells. Raises ValueError where there is no run."""
    if runs.empty:
        raise ValueError("no runs to compare")
    indexed = runs.set_index("run_id")
    settings = [key for key in indexed.columns if key.startswith(TRAINED_BY)]
    varied = [key for key in settings if len({_key(value) for value in indexed[key]}) > 1]
    seeds = [key for key in ("seed.init", "seed.data") if key in indexed]
    rows = {
        run_id: {"cell": _name({key: row[key] for key in varied}), "seed": "/".join(str(row[key]) for key in seeds)}
        | {key: row[key] for key in ("model.sublayers", *varied) if key in row}
        for run_id, row in zip(indexed.index, indexed.to_dict("records"), strict=True)
    }
    return Cells(pd.DataFrame.from_dict(rows, orient="index"), tuple(varied))


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _name(settings: Mapping[str, Any]) -> str:
    parts = [part for key, value in settings.items() if (part := _part(key, value))]
    return ", ".join(parts) or ("plain" if settings else "all runs")


def _part(key: str, value: Any) -> str:
    name = _SHORT.get(key, key.rpartition(".")[2].replace("_", " "))
    if key == "model.sublayers":
        return str(value) or "no sublayer"
    if key == "model.clamps":
        return " and ".join(f"L{c['layer']}H{c['head']} {_CLAMPED.get(c['kind'], c['kind'])}" for c in value)
    if isinstance(value, bool):
        return name if value else ""
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"


def _plainness(run: Mapping[Any, Any]) -> tuple[bool, int, int, bool]:
    sublayers = str(run.get("model.sublayers", "ss"))
    treated = any(run.get(key, none) != none for key, none in TREATMENTS.items())
    attention = sublayers.count("s")
    in_turns = sublayers in ("s" * attention, "sf" * attention)
    return treated, abs(attention - _TWO_LAYERS), sublayers.count("f"), not in_turns
