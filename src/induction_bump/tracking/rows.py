"""From records to W&B rows: one row a step, in order, and only what can no longer change.

A training step and the snapshot taken after it share their step and become one row. W&B drops a row whose step lies
before the last one logged, so a step is held back until it is certain that no snapshot of it is still to come.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, zip_longest
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from induction_bump.records.directory import RunDirectory, Snapshot
from induction_bump.records.schema import TABLES, RecordsError

TRAINING_KEYS = {name: f"train/{name}" for name in ("loss", "learning_rate", "grad_norm", "tokens_per_second")}
"""Columns of the training table → W&B keys."""

SCALAR_KEYS = {
    "loss": "eval/loss",
    "predictable_loss": "eval/predictable_loss",
    "unpredictable_loss": "eval/unpredictable_loss",
    "icl_score": "icl/score",
    "icl_window_score": "icl/window_score",
    "copy_advantage": "copy/advantage",
    "ordered_copy_advantage": "copy/ordered_advantage",
}
"""Scalars that have a W&B key of their own; any other goes by `scalars/<name>`."""

GRIDS = (
    "prefix_matching",
    "prefix_matching_mean",
    "prefix_matching_off_by_one",
    "duplicate_token",
    "previous_token",
    "first_token",
)
"""Head scores that are drawn as grids: shares of attention, which every head has and which lie between 0 and 1."""

_AT_ONCE = 32
"""Snapshots read together: enough to make catching up quick, few enough to hold in memory at any model size."""


@dataclass(frozen=True)
class Drawing:
    """What the custom charts of a snapshot are drawn from."""

    losses: list[float]
    """Loss by position, from position 1 on; empty where it was not recorded."""
    heads: Mapping[str, list[list[float]]]
    """Measure → scores[layer][head]; empty at snapshots whose grids are not drawn."""


@dataclass(frozen=True)
class Row:
    """Everything W&B gets for one step."""

    step: int
    tokens: int
    values: Mapping[str, float]
    """W&B key → number, without `tokens`."""
    drawing: Drawing | None
    """Where the step was measured."""


def scalar_key(name: str) -> str:
    """W&B key of a scalar."""
    return SCALAR_KEYS.get(name, f"scalars/{name}")


def chosen_positions(context: int, icl: Mapping[str, Any]) -> list[int]:
    """Positions whose loss has a curve of its own: 1, 4, 16, …, the two that the ICL score reads, and the last."""
    powers = [4**n for n in range(context.bit_length()) if 4**n <= context]
    read = [position for key in ("early", "late") if 1 <= (position := icl.get(key) or 0) <= context]
    return sorted({*powers, *read, context})


def rows_after(run: RunDirectory, step: int | None) -> Iterator[Row]:
    """Rows of the steps after `step` (None: all), in order of steps, as far as they are settled.

    Raises RecordsError for records that cannot be read, or that are taken back meanwhile.
    """
    # The order of these three reads matters: what a later one sees is at least as new as what an earlier one saw.
    settled = run.status == "finished"  # any other may go on
    training = _training_after(run, step)
    snapshots = run.snapshots()
    latest = training.column("step")[-1].as_py() if training.num_rows else None
    if not settled:
        measured = {s.step for s in snapshots}
        horizon = 0 if latest is None else latest if latest in measured else latest - 1
        training = training.filter(pc.field("step") <= horizon)
        snapshots = [s for s in snapshots if s.step <= horizon]
    new = [s for s in snapshots if step is None or s.step > step]
    return _merged(training, _measured(run, new, snapshots))


def _training_after(run: RunDirectory, step: int | None) -> pa.Table:
    """Training rows after `step`; part files that end before it stay unread."""
    after = -1 if step is None else step
    if (run.path / "tables" / "training.parquet").is_file():
        table = run.table("training")
    else:
        parts = sorted((run.path / "training").glob("part-*.parquet"), key=_first_step)
        following = map(_first_step, parts[1:])
        wanted = [p for p, end in zip_longest(parts, following) if end is None or end > after + 1]
        table = pa.concat_tables([TABLES["training"].empty_table(), *(_read(part) for part in wanted)])
    return table.filter(pc.field("step") > after).sort_by("step")


def _read(part: Path) -> pa.Table:
    return pq.read_table(part).select(TABLES["training"].names).replace_schema_metadata(None)


def _first_step(part: Path) -> int:
    match = re.search(r"(\d+)", part.stem)
    assert match, f"a part file is named after its first step: {part}"
    return int(match[1])


def _merged(training: pa.Table, measured: Iterator[Row]) -> Iterator[Row]:
    """Training rows and snapshot rows by step."""
    snapshot = next(measured, None)
    for batch in training.to_batches(max_chunksize=4096):
        for values in batch.to_pylist():
            step, tokens = values["step"], values["tokens"]
            while snapshot and snapshot.step < step:
                yield snapshot
                snapshot = next(measured, None)
            own = {key: values[name] for name, key in TRAINING_KEYS.items()}
            if snapshot and snapshot.step == step:
                yield Row(step, tokens, {**own, **snapshot.values}, snapshot.drawing)
                snapshot = next(measured, None)
            else:
                yield Row(step, tokens, own, None)
    if snapshot:
        yield snapshot
        yield from measured


def _measured(run: RunDirectory, new: list[Snapshot], every: list[Snapshot]) -> Iterator[Row]:
    """One row a snapshot, without the training step it follows."""
    config = run.config
    positions = chosen_positions(config["data"]["context"], config.get("measures", {}).get("icl") or {})
    drawn = steps_with_grids([s.step for s in every], run.info.total_steps)
    for start in range(0, len(new), _AT_ONCE):
        some = new[start : start + _AT_ONCE]
        steps = [s.step for s in some]
        scalars = _by_step(run.table("scalars", steps))
        losses = _by_step(run.table("positions", steps))
        heads = _by_step(run.table("heads", steps))
        if not all(snapshot.path.is_dir() for snapshot in some):
            raise RecordsError(f"{run.path}: the run went back to a checkpoint while its records were read")
        for snapshot in some:
            step = snapshot.step
            values = {scalar_key(entry["name"]): entry["value"] for entry in scalars.get(step, [])}
            by_position = {entry["position"]: entry["loss"] for entry in losses.get(step, [])}
            values |= {f"loss_at/{p}": by_position[p] for p in positions if p in by_position}
            values |= _head_values(heads.get(step, []))
            grids = _grids(heads.get(step, [])) if step in drawn else {}
            ordered = [by_position[p] for p in sorted(by_position)]
            yield Row(step, snapshot.tokens, values, Drawing(ordered, grids))


def _by_step(table: pa.Table) -> dict[int, list[dict[str, Any]]]:
    entries = table.drop_columns(["run_id", "tokens"]).to_pylist()
    return {step: list(group) for step, group in groupby(entries, itemgetter("step"))}


def _head_values(entries: list[dict[str, Any]]) -> dict[str, float]:
    """`heads/<measure>/L1H3` and `heads/<measure>/max`."""
    values: dict[str, float] = {}
    for entry in entries:
        prefix = f"heads/{entry['measure']}"
        values[f"{prefix}/L{entry['layer']}H{entry['head']}"] = entry["value"]
        values[f"{prefix}/max"] = max(values.get(f"{prefix}/max", entry["value"]), entry["value"])
    return values


def _grids(entries: list[dict[str, Any]]) -> dict[str, list[list[float]]]:
    grids: dict[str, list[list[float]]] = {}
    for entry in sorted(entries, key=itemgetter("measure", "layer", "head")):
        if entry["measure"] not in GRIDS:
            continue
        grid = grids.setdefault(entry["measure"], [])
        while len(grid) <= entry["layer"]:
            grid.append([])
        grid[entry["layer"]].append(entry["value"])
    return grids


def steps_with_grids(steps: list[int], last_step: int) -> set[int]:
    """The snapshots whose head grids are drawn: the first in each half doubling of the step, and the run's last.

    An image is a file to upload, and this is enough to watch a head form. It depends on nothing but the steps before,
    so that a second mirroring draws the same ones.
    """
    drawn, latest = set(), -1
    for step in sorted(steps):
        half_doublings = (step * step).bit_length()
        if half_doublings > latest or step == last_step:
            drawn.add(step)
        latest = half_doublings
    return drawn
