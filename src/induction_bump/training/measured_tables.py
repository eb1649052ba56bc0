"""The numbers of one snapshot as rows of the tables they belong to."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from induction_bump.measures.ablation import Head, Kind
from induction_bump.measures.causal import Effects
from induction_bump.measures.statistics import Estimate
from induction_bump.measures.take import Measured
from induction_bump.records.frames import rows

Columns = dict[str, Any]
_Entry = tuple[tuple[Kind, frozenset[Head]], str | None, int | None, Effects]
"""Kind and heads, group and draw, and what the ablation changed."""


def add_nulls(measured: Measured, nulls: Mapping[str, float]) -> None:
    """Keep null99 of the head scores among the scalars of step 0."""
    measured.scalars |= {f"null99/{name}": (value, None) for name, value in nulls.items()}


def tables_of(measured: Measured, run_id: str, step: int, tokens: int) -> dict[str, pa.Table]:
    """By table: the rows of a snapshot. Tables without any are left out."""
    columns: dict[str, Columns] = {}
    if measured.scalars:
        columns["scalars"] = {"name": list(measured.scalars), **_values(measured.scalars.values())}
    if measured.loss_by_position is not None:
        loss = measured.loss_by_position
        position = np.arange(1, len(loss.value) + 1)
        columns["positions"] = {"position": position, "loss": loss.value, "stderr": loss.stderr}
    if measured.token_losses is not None:
        columns["tokens"] = {"example": np.arange(len(measured.token_losses)), "loss": measured.token_losses}
    if measured.examples:
        columns["examples"] = {
            "name": [name for name, values in measured.examples.items() for _ in values],
            "example": np.concatenate([np.arange(len(values)) for values in measured.examples.values()]),
            "value": np.concatenate(list(measured.examples.values())),
        }
    if measured.heads:
        entries = [(name, head, value) for name, heads in measured.heads.items() for head, value in heads.items()]
        columns["heads"] = {
            "layer": [head[0] for _, head, _ in entries],
            "head": [head[1] for _, head, _ in entries],
            "measure": [name for name, _, _ in entries],
            **_values([value for _, _, value in entries]),
        }
    if measured.head_pairs is not None and len(measured.head_pairs.value):
        pairs = measured.head_pairs
        columns["head_pairs"] = {**vars(pairs), "kind": pairs.kind.tolist()}
    if measured.ablations:
        columns["ablations"] = _ablations([(key, None, None, found) for key, found in measured.ablations.items()])
        columns["ablated_tokens"] = _ablated_tokens(measured.ablations)
    if measured.paths:
        columns["paths"] = {
            "path": [path.name for path in measured.paths],
            "order": [path.order for path in measured.paths],
            "how": [path.how for path in measured.paths],
            **_values([_pair(estimate) for estimate in measured.paths.values()]),
        }
    return {name: rows(name, run_id, step, tokens, values) for name, values in columns.items()}


def group_rows(
    found: Mapping[tuple[str, int | None], Mapping[Kind, Effects]], run_id: str, step: int, tokens: int
) -> pa.Table:
    """Rows of `ablations` for groups: (name, draw) → kind → what the ablation changed."""
    entries: list[_Entry] = [
        ((kind, frozenset()), group, draw, effects)
        for (group, draw), kinds in found.items()
        for kind, effects in kinds.items()
    ]
    return rows("ablations", run_id, step, tokens, _ablations(entries))


def _ablations(entries: list[_Entry]) -> Columns:
    columns: Columns = {name: [] for name in ("layer", "head", "group", "draw", "kind", "quantity")}
    values: list[tuple[float, float | None]] = []
    for (kind, heads), group, draw, effects in entries:
        layer, head = next(iter(heads)) if group is None else (None, None)
        for quantity, estimate in effects.quantities.items():
            row = {"layer": layer, "head": head, "group": group, "draw": draw, "kind": kind, "quantity": quantity}
            for name, value in row.items():
                columns[name].append(value)
            values.append(_pair(estimate))
    return columns | _values(values)


def _ablated_tokens(ablations: Mapping[tuple[Kind, frozenset[Head]], Effects]) -> Columns:
    parts = [(kind, next(iter(heads)), effects.token_losses) for (kind, heads), effects in ablations.items()]
    return {
        "layer": np.concatenate([np.full(len(losses), head[0]) for _, head, losses in parts]),
        "head": np.concatenate([np.full(len(losses), head[1]) for _, head, losses in parts]),
        "kind": [kind for kind, _, losses in parts for _ in losses],
        "example": np.concatenate([np.arange(len(losses)) for _, _, losses in parts]),
        "loss": np.concatenate([losses for _, _, losses in parts]),
    }


def _pair(estimate: Estimate) -> tuple[float, float | None]:
    return float(estimate.value), float(estimate.stderr)


def _values(pairs: Any) -> Columns:
    listed = list(pairs)
    return {"value": [value for value, _ in listed], "stderr": [stderr for _, stderr in listed]}
