"""What locating reads of a run, each table once."""

from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from induction_bump.locate.options import LocateOptions
from induction_bump.locate.plateau import Scores
from induction_bump.model.options import ModelOptions
from induction_bump.records.directory import RunDirectory
from induction_bump.records.schema import RecordsError


class NotApplicableError(Exception):
    """This run cannot have an event or a change; the message is the reason."""


class Reading:
    """A run's config and tables, from what is committed so far.

    Raises RecordsError where the records, or the sections `model` and `locate` of the run's config, cannot be read.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.model = run.typed(ModelOptions, "model")
        self.options = run.typed(LocateOptions, "locate")
        self.info = run.info
        self.ended = run.status == "finished"
        self.scalars: pd.DataFrame = run.table("scalars").to_pandas()
        self.heads: pd.DataFrame = run.table("heads").to_pandas()

    @cached_property
    def training(self) -> pa.Table:
        """The training table."""
        return self.run.table("training")

    @cached_property
    def out_of_warmup(self) -> float:
        """Tokens at which the learning rate had come to half its peak; 0 where no training rows are kept."""
        rates = self.training.column("learning_rate").to_numpy()
        return float(self.training.column("tokens").to_numpy()[rates >= rates.max() / 2][0]) if len(rates) else 0.0

    @cached_property
    def icl_scores(self) -> tuple[Scores, npt.NDArray[np.int64]]:
        """icl_window_score of every example at every snapshot that holds it, and the steps of those snapshots.

        Raises NotApplicableError where no example has one, or one is not finite.
        """
        table = self.run.table("examples", equals={"name": "icl_window_score"})
        return scores_of(self, table, "value", "icl_window_score")

    def warm(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which snapshots come after step 0 and out of warm-up."""
        return (tokens > 0) & (tokens >= self.out_of_warmup)

    def scalar(self, name: str) -> pd.DataFrame:
        """step, tokens, value and stderr of one scalar over the snapshots.

        Raises NotApplicableError where the records do not hold it.
        """
        rows = self.scalars.query("name == @name").sort_values("step")
        if rows.empty:
            raise NotApplicableError(f"the records hold no {name}")
        return rows


def finite(values: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
    """The values. Raises NotApplicableError where one is not finite."""
    if not np.isfinite(values).all():
        raise NotApplicableError(f"{name} is not finite at every snapshot")
    return values


def scores_of(reading: Reading, table: pa.Table, column: str, name: str) -> tuple[Scores, npt.NDArray[np.int64]]:
    """A column of a table that has one row an example and snapshot, and the steps of its snapshots.

    Raises NotApplicableError where the table is empty, or a value is not finite or missing.
    """
    rows = table.to_pandas()
    if rows.empty:
        raise NotApplicableError(f"the records hold no {name} per example")
    wide = (
        rows.pivot(index=["step", "tokens"], columns="example", values=column).sort_index().sort_index(axis="columns")
    )
    values = finite(wide.to_numpy(np.float64), name)
    tokens, steps = (wide.index.get_level_values(k).to_numpy(np.int64) for k in ("tokens", "step"))
    return Scores(tokens, values, documents(reading.run, wide.columns.to_numpy(np.int64))), steps


def documents(run: RunDirectory, examples: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The document of each example; each its own where the run does not say.

    Raises RecordsError where the run's probes lack an example.
    """
    probes = run.probes()
    if probes is None:
        return examples
    known: dict[int, int] = dict(zip(*(probes.column(c).to_pylist() for c in ("example", "document")), strict=True))
    missing = [int(example) for example in examples if int(example) not in known]
    if missing:
        raise RecordsError(f"{run.path}: its probes lack example {missing[0]}, which its records have a score of")
    return np.array([known[int(example)] for example in examples], np.int64)
