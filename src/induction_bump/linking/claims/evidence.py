"""What claims read of a study: its cells, the times of its runs, and numbers before and after the bump."""

from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from induction_bump.linking.causal_share import at_the_end, causal_shares
from induction_bump.linking.lags import lags
from induction_bump.linking.times import Source, by_run, event_times
from induction_bump.linking.treatments import Effect, effects
from induction_bump.records.cells import TREATMENTS, Cells, cells
from induction_bump.records.load import Records

Array = npt.NDArray[np.float64]
SIZES = frozenset({"model.sublayers", "model.d_model", "model.n_heads", "model.d_head", "model.d_mlp"})
"""Settings that make a model larger or smaller."""
STRETCH = 1.25
"""Factor in tokens over which the slope of the loss is taken on either side of a change."""
TEXT = ("files", "hub", "python_source")
"""Corpora of real text."""
_COPIES = "data.corpus.copy_share"


class Evidence:
    """A study, read when asked for and then kept."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.name = records.path.resolve().name
        self._times = cache(lambda event, source: event_times(records, event, source).set_index("run_id"))
        self._in_state = cache(lambda event, state: self.times(event).query("state == @state").index.map(str).tolist())
        self._events = cache(lambda name: by_run(records.phase_changes.query("event == @name")))

    @cached_property
    def runs(self) -> pd.DataFrame:
        """Rows of `records.runs`, by run_id."""
        return self.records.runs.set_index("run_id")

    @cached_property
    def cells(self) -> Cells:
        """The cells of the study."""
        return cells(self.records.runs)

    def times(self, event: str = "icl", source: Source | None = None) -> pd.DataFrame:
        """Rows of `event_times`, by run_id."""
        return self._times(event, source)

    def located(self, event: str = "icl") -> list[str]:
        """Runs of which the time of an event is known."""
        return self._in_state(event, "located")

    def having(self, event: str = "icl") -> list[str]:
        """Runs that had an event: those of `located`, and those that had it from the start."""
        return self.located(event) + self._in_state(event, "before")

    def without(self, event: str = "icl") -> list[str]:
        """Runs that ended without an event that they could have had; those that may still have it are in neither."""
        looked_for = self.event(event)
        return [run_id for run_id in self._in_state(event, "after") if looked_for[run_id]["verdict"] == "not_found"]

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
    def ramps(self) -> pd.DataFrame:
        """Rows of `Records.changes` by run_id, for the runs in which a change of the ICL score was found."""
        rows = self.records.changes.query("event == 'icl_change' and verdict in ['abrupt', 'gradual']")
        return rows.set_index("run_id")

    def ramp(self, name: str, run_ids: Iterable[str]) -> Array:
        """A column of `ramps` for some runs, of those that have it."""
        return self.ramps[name].reindex(list(run_ids)).dropna().to_numpy(np.float64)

    def event(self, name: str) -> dict[str, dict[Any, Any]]:
        """run_id → row of one event or phase change, for the runs in which it was looked for."""
        return self._events(name)

    def setting(self, key: str) -> dict[str, Any]:
        """run_id → a setting, or any other column of `records.runs`."""
        return {run_id: row[key] for run_id, row in by_run(self.records.runs).items()}

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

    def ordinary(self, run_id: str) -> bool:
        """Whether the bump is expected of a run: plain, two attention layers or more, something to copy in its data."""
        copies = float(self.runs.at[run_id, _COPIES]) if _COPIES in self.runs else np.nan
        return self.plain(run_id) and self.layers(run_id) > 1 and not copies <= 0

    @cached_property
    def sizes(self) -> dict[str, list[str]]:
        """Cell → its runs, for ordinary models that differ in nothing but size, whether or not they have a bump."""
        if set(self.cells.varied) - SIZES - TREATMENTS.keys():
            return {}
        found = {name: [r for r in self.cells.runs(name) if self.ordinary(r)] for name in self.cells.names}
        return {name: runs for name, runs in found.items() if runs}

    @cached_property
    def final(self) -> pd.DataFrame:
        """The last value of every scalar of each run: run_id × name."""
        rows = self.records.scalars
        last = rows.loc[rows.groupby(["run_id", "name"])["step"].idxmax()]
        return last.pivot(index="run_id", columns="name", values="value")

    def last(self, name: str, run_ids: list[str]) -> Array:
        """The last value of a scalar in each of some runs, of those that have recorded it."""
        return self.final.reindex(index=run_ids, columns=[name])[name].dropna().to_numpy(np.float64)

    def end(self, name: str, run_id: str) -> float:
        """The last value of a scalar of one run; NaN where it has recorded none."""
        values = self.last(name, [run_id])
        return float(values[0]) if len(values) else np.nan

    def before(self, run_id: str) -> float:
        """ICL score of a run before its change, in nats: the mean over the plateau that the event is measured from."""
        row = self.event("icl").get(run_id)
        return float(row["value_before"]) if row is not None and row["verdict"] == "found" else np.nan

    def curve(self, name: str, run_id: str) -> tuple[Array, Array]:
        """Tokens of the snapshots after step 0, and one scalar there."""
        rows = self.records.scalars.query("name == @name and run_id == @run_id and step > 0").sort_values("tokens")
        return rows["tokens"].to_numpy(np.float64), rows["value"].to_numpy(np.float64)

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
        if run_id not in self.ramps.index:
            return np.nan, np.nan
        onset, end = (float(self.ramps.at[run_id, name]) for name in ("onset", "end"))
        return self.loss_slope(run_id, onset / STRETCH, onset), self.loss_slope(run_id, end, STRETCH * end)


def mean_interval(values: Array, level: float = 0.9) -> tuple[float, float, float]:
    """Mean over runs with its interval by Student's t; an interval without end for one run."""
    from scipy.stats import t

    n, mean = len(values), float(np.mean(values))
    half = float(t.ppf((1 + level) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else np.inf
    return mean, mean - half, mean + half
