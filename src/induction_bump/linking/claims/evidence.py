"""What claims read of a study: its cells, the times of its runs, and numbers before and after the bump."""

from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from induction_bump.linking.causal_share import at_the_end, causal_shares
from induction_bump.linking.lags import lags
from induction_bump.linking.times import event_times
from induction_bump.linking.treatments import Effect, effects
from induction_bump.records.cells import Cells, cells
from induction_bump.records.load import Records

Array = npt.NDArray[np.float64]
SIZES = frozenset({"model.sublayers", "model.d_model", "model.n_heads", "model.d_head", "model.d_mlp"})
"""Settings that make a model larger or smaller."""
STRETCH = 1.25
"""Factor in tokens over which the slope of the loss is taken on either side of a change."""
TEXT = ("files", "hub", "python_source")
"""Corpora of real text."""


class Evidence:
    """A study, read when asked for and then kept."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.name = records.path.resolve().name
        self._times = cache(lambda event: event_times(records, event).set_index("run_id"))

    @cached_property
    def runs(self) -> pd.DataFrame:
        """Rows of `records.runs`, by run_id."""
        return self.records.runs.set_index("run_id")

    @cached_property
    def cells(self) -> Cells:
        """The cells of the study."""
        return cells(self.records.runs)

    def times(self, event: str = "icl") -> pd.DataFrame:
        """Rows of `event_times`, by run_id."""
        return self._times(event)

    def located(self, event: str = "icl") -> list[str]:
        """Runs of which the time of an event is known."""
        return [str(run_id) for run_id in self.times(event).query("state == 'located'").index]

    def without(self, event: str = "icl") -> list[str]:
        """Runs that ended without an event that they could have had; those that may still have it are in neither."""
        return [str(row["run_id"]) for row in self.event(event).values() if row["verdict"] == "not_found"]

    def tokens(self, run_ids: list[str], event: str = "icl") -> Array:
        """Estimated times of runs, in tokens."""
        return self.times(event).loc[run_ids, "estimate"].to_numpy(np.float64)

    @cached_property
    def lags(self) -> pd.DataFrame:
        """What `lags` gives."""
        return lags(self.records)

    @cached_property
    def effects(self) -> list[Effect]:
        """What each treatment does to the time of the bump."""
        return effects(self.times().reset_index(), self.cells)

    @cached_property
    def shares(self) -> pd.DataFrame:
        """What is lost without the induction heads at the end of each run; no rows where that was not measured."""
        return at_the_end(causal_shares(self.records))

    @cached_property
    def changes(self) -> pd.DataFrame:
        """Rows of `phase_changes`."""
        return self.records.phase_changes

    def event(self, name: str) -> dict[str, dict[Any, Any]]:
        """run_id → row of one event or phase change, for the runs in which it was looked for."""
        rows = self.changes.query("event == @name").to_dict("records")
        return {str(row["run_id"]): row for row in rows}

    def setting(self, key: str) -> dict[str, Any]:
        """run_id → a setting, or any other column of `records.runs`."""
        return {str(row["run_id"]): row[key] for row in self.records.runs.to_dict("records")}

    def layers(self, run_id: str) -> int:
        """Attention layers of a run."""
        return str(self.runs.at[run_id, "model.sublayers"]).count("s")

    def smeared(self, run_id: str) -> bool:
        """Whether its keys are smeared."""
        return bool(self.runs.at[run_id, "model.smeared_keys"])

    def clamps(self, run_id: str) -> list[Mapping[str, Any]]:
        """Its clamps."""
        clamps = self.runs.at[run_id, "model.clamps"] if "model.clamps" in self.runs else []
        return list(clamps) if isinstance(clamps, list | tuple | np.ndarray) else []

    def plain(self, run_id: str) -> bool:
        """Whether nothing was done to a run that is not done to any model."""
        return not self.smeared(run_id) and not self.clamps(run_id)

    def on_text(self) -> bool:
        """Whether all runs read real text, with a context that the published scores are defined for."""
        return bool(self.runs["data.corpus.name"].isin(TEXT).all() and (self.runs["data.context"] >= 500).all())

    @cached_property
    def sizes(self) -> dict[str, list[str]]:
        """Cell → its runs with a bump, for plain models that differ in nothing but size; fewer than two where none."""
        if set(self.cells.varied) - SIZES - {"model.smeared_keys", "model.clamps"}:
            return {}
        located = set(self.located())
        found = {
            name: [r for r in self.cells.runs(name) if r in located and self.plain(r)] for name in self.cells.names
        }
        return {name: runs for name, runs in found.items() if len(runs) > 1}

    @cached_property
    def final(self) -> pd.DataFrame:
        """The last value of every scalar of each run: run_id × name."""
        rows = self.records.scalars
        last = rows.loc[rows.groupby(["run_id", "name"])["step"].idxmax()]
        return last.pivot(index="run_id", columns="name", values="value")

    def last(self, name: str, run_ids: list[str]) -> Array:
        """The last value of a scalar in each of some runs, of those that have recorded it."""
        return self.final.reindex(index=run_ids, columns=[name])[name].dropna().to_numpy(np.float64)

    def window(self, run_id: str) -> tuple[float, float] | None:
        """Tokens at onset and end of a run's change of the ICL score; None where it was not located.

        Records keep the snapshots around each; these are the middles of the gaps in which they lie, since the outer
        snapshots alone would stretch a change the more, the earlier it is. The event is no stand-in: it says when a
        threshold was crossed, which is inside the change.
        """
        row = self.event("icl_change").get(run_id)
        if row is None or not row["found"]:
            return None
        low, high = float(row["tokens_low"]), float(row["tokens_high"])
        snapshots, _ = self.curve("icl_window_score", run_id)
        inside = snapshots[(snapshots > low) & (snapshots < high)]
        if len(inside) < 2 or low <= 0:
            return low, high
        return float(np.sqrt(low * inside[0])), float(np.sqrt(inside[-1] * high))

    def before(self, run_id: str) -> float:
        """ICL score of a run before its change, in nats: the mean over the plateau that the event is measured from."""
        row = self.event("icl").get(run_id)
        return float(row["value_before"]) if row is not None and row["verdict"] == "found" else np.nan

    def curve(self, name: str, run_id: str) -> tuple[Array, Array]:
        """Tokens of the snapshots after step 0, and one scalar there."""
        rows = self.records.scalars.query("name == @name and run_id == @run_id and step > 0").sort_values("tokens")
        return rows["tokens"].to_numpy(np.float64), rows["value"].to_numpy(np.float64)

    def at(self, name: str, run_id: str, tokens: float) -> float:
        """A scalar between snapshots, linear in ln(tokens)."""
        x, y = self.curve(name, run_id)
        return float(np.interp(np.log(max(tokens, 1.0)), np.log(x), y))

    def loss_slope(self, run_id: str, start: float, end: float) -> float:
        """d loss / d ln tokens over the snapshots from `start` to `end`, by least squares.

        NaN for fewer than three snapshots, and where the records end before `end`: how steep a loss is depends on how
        long after the change one looks, so that stretches of different length do not compare.
        """
        x, y = self.curve("loss", run_id)
        here = (x >= start) & (x <= end)
        whole = here.sum() > 2 and x[-1] >= end
        return float(np.polyfit(np.log(x[here]), y[here], 1)[0]) if whole else np.nan

    def slopes(self, run_id: str) -> tuple[float, float]:
        """`loss_slope` over a factor of `STRETCH` in tokens before the change and after it; NaN without a change."""
        window = self.window(run_id)
        if window is None:
            return np.nan, np.nan
        return (
            self.loss_slope(run_id, window[0] / STRETCH, window[0]),
            self.loss_slope(run_id, window[1], STRETCH * window[1]),
        )


def mean_interval(values: Array, level: float = 0.9) -> tuple[float, float, float]:
    """Mean over runs with its interval by Student's t; an interval without end for one run."""
    from scipy.stats import t

    n, mean = len(values), float(np.mean(values))
    half = float(t.ppf((1 + level) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else np.inf
    return mean, mean - half, mean + half
