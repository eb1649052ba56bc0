"""`load(path)`: the records of a run or a study as pandas DataFrames."""

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from induction_bump.data.cores import available_cores
from induction_bump.records.damage import warn
from induction_bump.records.derived import LOCATED, read_located
from induction_bump.records.directory import RunDirectory, find_runs
from induction_bump.records.schema import RecordsError


def load(path: Path | str) -> "Records":
    """Open the records of a run or a study; a table is read from disk when it is asked for.

    >>> records = load("runs/quickstart")  # doctest: +SKIP
    >>> records.scalars.query("name == 'icl_score'").set_index("tokens").value.plot()  # doctest: +SKIP

    A run of a study that is damaged is left out, with a RecordsWarning that says what is wrong.
    Raises RecordsError where `path` is neither a run nor a study, or nothing there can be read.
    """
    path, sound, errors = Path(path), list[RunDirectory](), list[RecordsError]()
    for run in find_runs(path):
        try:
            run.check()
            sound.append(run)
        except RecordsError as error:
            errors.append(error)
    if not sound:
        raise errors[0]
    for error in errors:
        warn(f"{error}; the run is left out")
    return Records(path, sound)


class Records:
    """One DataFrame a table (docs/reading-records.md#the-tables), over one run or all runs of a study."""

    def __init__(self, path: Path, directories: list[RunDirectory]) -> None:
        self.path = path
        self.directories = directories

    def __repr__(self) -> str:
        return f"Records({str(self.path)!r}, {len(self.directories)} runs)"

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row a run: what run.json says, and the config with dots (`model.d_model`)."""
        return pd.DataFrame([_row(run) for run in self.directories])

    @cached_property
    def scalars(self) -> pd.DataFrame:
        """One number a snapshot: run_id, step, tokens, name, value, stderr."""
        return self.read("scalars")

    @cached_property
    def positions(self) -> pd.DataFrame:
        """Loss by position: run_id, step, tokens, position (1-based), loss, stderr."""
        return self.read("positions")

    @cached_property
    def tokens(self) -> pd.DataFrame:
        """Loss on one fixed position per example: run_id, step, tokens, example, loss."""
        return self.read("tokens")

    @cached_property
    def examples(self) -> pd.DataFrame:
        """A measure per example: run_id, step, tokens, name, example, value."""
        return self.read("examples")

    @cached_property
    def heads(self) -> pd.DataFrame:
        """One score a head: run_id, step, tokens, layer, head, measure, value, stderr."""
        return self.read("heads")

    @cached_property
    def head_pairs(self) -> pd.DataFrame:
        """Composition: run_id, step, tokens, layer_in, head_in, layer_out, head_out, kind, value, baseline."""
        return self.read("head_pairs")

    @cached_property
    def ablations(self) -> pd.DataFrame:
        """Ablated minus intact: run_id, step, tokens, layer, head, group, draw, kind, quantity, value, stderr.

        `layer` and `head` are null for a group, `group` and `draw` for a single head.
        """
        return self.read("ablations")

    @cached_property
    def ablated_tokens(self) -> pd.DataFrame:
        """Loss with a head ablated, where `tokens` has it without: …, layer, head, kind, example, loss."""
        return self.read("ablated_tokens")

    @cached_property
    def paths(self) -> pd.DataFrame:
        """Path order: run_id, step, tokens, path, order, how, value, stderr."""
        return self.read("paths")

    @cached_property
    def training(self) -> pd.DataFrame:
        """Every optimiser step: run_id, step, tokens, loss, learning_rate, grad_norm, tokens_per_second."""
        return self.read("training")

    @cached_property
    def phase_changes(self) -> pd.DataFrame:
        """What `bump locate` wrote for this path; for a study it never read, what it wrote for the runs.

        Of the runs that are here alone. A RecordsWarning says where others were located too, or a file is damaged.
        """
        return self._located("phase_changes")

    @cached_property
    def changes(self) -> pd.DataFrame:
        """Phase changes with the intervals of onset, midpoint, end, width and drop, found as `phase_changes` are."""
        return self._located("changes")

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The time of each event over the seeds of each cell, as `bump locate` wrote it for this study.

        None, with a RecordsWarning, where the runs that are here are not those that were located.
        """
        return self.cell_rows().to_pandas()

    def cell_rows(self) -> pa.Table:
        """The same as `cells`, where what is null stays null."""
        tables = list(self._read_located([self.path], "cells"))
        return tables[0] if tables and self._located_as_it_is() else LOCATED["cells"].empty_table()

    def _located_as_it_is(self) -> bool:
        """Whether the runs that are here are those that were located together; a RecordsWarning says of others."""
        tables = list(self._read_located([self.path], "phase_changes"))
        if not tables:  # which has been said, if it is damaged
            return False
        located = self._of_runs(tables, "phase_changes")
        here = {run.info.run_id: run.name for run in self.directories}
        if further := [name for run_id, name in here.items() if run_id not in set(located["run_id"])]:
            warn(
                f"{self.path}: located without {', '.join(further)}; cells are left out, `bump locate` makes them anew"
            )
        return not further and bool(located["here"].all())

    def _located(self, name: str) -> pd.DataFrame:
        here = list(self._read_located([self.path], name))
        frame = self._of_runs(here or list(self._read_located([run.path for run in self.directories], name)), name)
        return frame.loc[frame["here"]].drop(columns="here").reset_index(drop=True)

    def _of_runs(self, tables: list[pa.Table], name: str) -> pd.DataFrame:
        """Rows of runs, and whether each is of one that is `here`; a RecordsWarning says where some are not."""
        frame = (pa.concat_tables(tables) if tables else LOCATED[name].empty_table()).to_pandas()
        frame["here"] = frame["run_id"].isin([run.info.run_id for run in self.directories])
        if not frame["here"].all():
            gone = ", ".join(frame.loc[~frame["here"], "run"].unique())
            warn(f"{self.path}: located with {gone}, which cannot be read here; `bump locate` writes it anew without")
        return frame

    def _read_located(self, places: Collection[Path], name: str) -> Iterator[pa.Table]:
        for file in dict.fromkeys(place / f"{name}.parquet" for place in places):
            try:
                if file.is_file():
                    yield read_located(file, LOCATED[name])
            except RecordsError as error:
                warn(error)

    def read(
        self,
        table: str,
        runs: Collection[str] | None = None,
        steps: Collection[int] | None = None,
        columns: Collection[str] | None = None,
        **equals: Any,
    ) -> pd.DataFrame:
        """Read one table, keeping only some runs (by run_id), some steps, some columns, and rows that equal values.

        A list as a value keeps rows that equal one of its entries. What is left out is left out while reading, so that
        a part of a large table costs little memory. Raises RecordsError for an unknown table or column.
        """
        wanted = None if runs is None else {runs} if isinstance(runs, str) else set(runs)
        chosen = [run for run in self.directories if wanted is None or run.info.run_id in wanted]
        if not chosen:
            raise RecordsError(f"{self.path}: none of the runs {runs} is here")
        with ThreadPoolExecutor(available_cores()) as pool:  # pyarrow reads outside the interpreter's lock
            parts = list(pool.map(lambda run: run.table(table, steps, equals, columns), chosen))
        whole = pa.concat_tables(parts)
        del parts  # so that each column's memory is free once pandas has it
        return whole.to_pandas(self_destruct=True)


def _row(run: RunDirectory) -> dict[str, Any]:
    info = run.info
    left_out = {"hashes", "versions", "hardware", "probes", "measure_versions", "seconds", "resumes"}
    left_out |= {"weights", "without_rows"}
    described = {**info.model_dump(exclude=left_out), "resumes": len(info.resumes), "status": run.status}
    return {"run": run.name, "path": str(run.path), **described, **flatten(run.config)}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A config with dotted keys (`model.d_model`), without the names of run and study."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif prefix or key not in ("study", "name"):
            flat[f"{prefix}{key}"] = value
    return flat
