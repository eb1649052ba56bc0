"""What a page shows of a run, read from its records into arrays.

Shape letters: S snapshots, P positions, L attention layers, H heads per layer. Tokens are training tokens, losses
nats. A value that a snapshot does not have is NaN.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from induction_bump.records.directory import RunDirectory
from induction_bump.records.schema import RunInfo
from induction_bump.report.sparse import (
    Ablations,
    Array,
    Pairs,
    Paths,
    read_ablations,
    read_pairs,
    read_paths,
)


@dataclass(frozen=True)
class Curve:
    """One quantity over snapshots: values and standard errors, each [S]."""

    values: Array
    stderr: Array

    @property
    def last(self) -> float | None:
        """The latest value there is."""
        known = self.values[np.isfinite(self.values)]
        return float(known[-1]) if known.size else None


@dataclass(frozen=True)
class Positions:
    """Loss by position: `position` [P] (1-based), `loss` and `stderr` [S, P]."""

    position: Array
    loss: Array
    stderr: Array


@dataclass(frozen=True)
class RunContents:
    """A run as its page sees it."""

    directory: RunDirectory
    info: RunInfo
    status: str
    config: Mapping[str, Any]
    steps: Array
    tokens: Array
    scalars: Mapping[str, Curve]
    positions: Positions | None
    heads: Mapping[str, Array]
    """Scores by measure, each [S, L, H]."""
    training: tuple[Array, Array] | None
    """Tokens and loss of optimiser steps, thinned."""
    reached: int = 0
    """The latest step that anything is recorded of."""
    speed: float | None = None
    """Tokens per second of the latest steps."""
    null99: Mapping[str, float] = field(default_factory=dict)
    """99th percentile of a head score over fresh initialisations, by measure."""
    head_errors: Mapping[str, Array] = field(default_factory=dict)
    """Standard errors of the scores, each [S, L, H]."""
    weights: bool = False
    """Whether there are weights to measure from."""
    pairs: Pairs | None = None
    ablations: Ablations | None = None
    paths: Paths | None = None

    @property
    def n_attention(self) -> int:
        """Number of attention layers that the config asks for."""
        return str(self.option("model", "sublayers", default="")).count("s")

    @property
    def going(self) -> bool:
        """Whether more may still be written, as far as run.json says."""
        return self.info.status == "running"

    def option(self, *keys: str, default: Any = None) -> Any:
        """A value of the config by its path, or `default` where the config lacks it."""
        value: Any = self.config
        for key in keys:
            if not isinstance(value, Mapping) or key not in value:
                return default
            value = value[key]
        return value

    @cached_property
    def head_names(self) -> list[str]:
        """`L0H0`, `L0H1`, … in the order of a flattened [L, H]."""
        tables = [*self.heads.values(), *(e.values for e in (self.ablations.heads if self.ablations else {}).values())]
        layers, heads = tables[0].shape[1:3] if tables else (0, 0)
        return [head_name(layer, head) for layer in range(layers) for head in range(heads)]

    def head_threshold(self, measure: str) -> float | None:
        """Score from which a head counts (docs/measures/definitions.md#events), or None where the run does not say."""
        floor, margin = self.option("locate", "head_floor"), self.option("locate", "null_margin")
        if floor is None or margin is None or measure not in self.null99:
            return None
        return max(float(floor), self.null99[measure] + float(margin))

    def best_heads(self, measure: str, count: int) -> list[tuple[str, float]]:
        """Heads of the highest score at the latest snapshot that has one, the best first."""
        scores = self.heads.get(measure)
        return [] if scores is None else ranked(self.head_names, scores)[:count]


def head_name(layer: int, head: int) -> str:
    """How a head is written."""
    return f"L{layer}H{head}"


def ranked(names: Sequence[str], scores: Array) -> list[tuple[str, float]]:
    """Names with their score [S, …] at the latest snapshot that has any, the highest first, −inf where it lacks one."""
    flat = scores.reshape(len(scores), -1)
    known = flat[np.isfinite(flat).any(axis=1)]
    if not len(known):
        return []
    latest = np.where(np.isfinite(known[-1]), known[-1], -np.inf)
    return [(names[int(i)], float(latest[i])) for i in np.argsort(-latest, kind="stable")]


def read(directory: RunDirectory, *, everything: bool = True) -> RunContents:
    """Read a run; without `everything` only what a study's page overlays (a few scalars and two head measures).

    Raises RecordsError for a file that does not have its layout. Tables that are not there yet are left out.
    """
    directory.check()
    info, status, config = directory.info, directory.status, directory.config
    scalars, heads = directory.table("scalars"), directory.table("heads")
    positions = directory.table("positions") if everything else None
    tables = [table for table in (scalars, heads, positions) if table is not None]
    steps, tokens = _moments(tables)
    curves = _curves(scalars, steps)
    null = {name.removeprefix("null99/"): curves.pop(name) for name in list(curves) if name.startswith("null99/")}
    training = directory.table("training")
    steps_done = training.column("step").to_numpy()
    measures = None if everything else ("prefix_matching", "previous_token")
    values, errors = _heads(heads, steps, measures) if heads.num_rows else ({}, {})
    shape = next(((v.shape[1], v.shape[2]) for v in values.values()), (0, 0))
    return RunContents(
        directory=directory,
        info=info,
        status=status,
        config=config,
        steps=steps,
        tokens=tokens,
        scalars=curves,
        positions=_positions(positions, steps) if positions is not None and positions.num_rows else None,
        heads=values,
        head_errors=errors,
        training=_thinned(training) if everything else None,
        reached=int(max([*steps[-1:], *steps_done[-1:]], default=0)),
        speed=float(np.median(_floats(training, "tokens_per_second")[-20:])) if training.num_rows else None,
        null99={name: value for name, curve in null.items() if (value := curve.last) is not None},
        weights=any(directory.path.glob("snapshots/*/weights.safetensors")),
        pairs=read_pairs(directory.table("head_pairs"), shape) if everything else None,
        ablations=read_ablations(directory.table("ablations"), shape) if everything else None,
        paths=read_paths(directory.table("paths")) if everything else None,
    )


def _moments(tables: list[pa.Table]) -> tuple[Array, Array]:
    steps = np.concatenate([table.column("step").to_numpy() for table in tables])
    tokens = np.concatenate([table.column("tokens").to_numpy() for table in tables])
    unique, first = np.unique(steps, return_index=True)
    return unique, tokens[first]


def _curves(table: pa.Table, steps: Array) -> dict[str, Curve]:
    at = np.searchsorted(steps, table.column("step").to_numpy())
    names, which = np.unique(np.asarray(table.column("name").to_pylist(), dtype=str), return_inverse=True)
    filled = np.full((2, len(names), len(steps)), np.nan)
    filled[0, which, at] = _floats(table, "value")
    filled[1, which, at] = _floats(table, "stderr")
    return {str(name): Curve(filled[0, i], filled[1, i]) for i, name in enumerate(names)}


def _positions(table: pa.Table, steps: Array) -> Positions:
    position, column = np.unique(table.column("position").to_numpy(), return_inverse=True)
    at = np.searchsorted(steps, table.column("step").to_numpy())
    filled = np.full((2, len(steps), len(position)), np.nan)
    filled[0, at, column] = _floats(table, "loss")
    filled[1, at, column] = _floats(table, "stderr")
    return Positions(position, filled[0], filled[1])


def _heads(
    table: pa.Table, steps: Array, measures: tuple[str, ...] | None
) -> tuple[dict[str, Array], dict[str, Array]]:
    encoded = table.column("measure").combine_chunks().dictionary_encode()
    names, which = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    at = np.searchsorted(steps, table.column("step").to_numpy())
    layer, head = table.column("layer").to_numpy(), table.column("head").to_numpy()
    filled = np.full((2, len(names), len(steps), layer.max() + 1, head.max() + 1), np.nan)
    filled[0, which, at, layer, head] = _floats(table, "value")
    filled[1, which, at, layer, head] = _floats(table, "stderr")
    wanted = [(i, name) for i, name in enumerate(names) if measures is None or name in measures]
    return {name: filled[0, i] for i, name in wanted}, {name: filled[1, i] for i, name in wanted}


def _floats(table: pa.Table, column: str) -> Array:
    return table.column(column).to_numpy().astype(np.float64)


def _thinned(table: pa.Table, points: int = 400) -> tuple[Array, Array] | None:
    """Means over bins that are fine enough for a linear and for a log axis."""
    if not table.num_rows:
        return None
    tokens, loss = table.column("tokens").to_numpy(), _floats(table, "loss")
    if len(tokens) <= points:
        return tokens, loss
    first, last = max(int(tokens[0]), 1), int(tokens[-1])
    edges = np.unique(np.concatenate([np.linspace(first, last, points), np.geomspace(first, last, points // 2)]))
    which = np.searchsorted(edges, tokens)
    count = np.bincount(which)
    filled = count > 0
    mean_tokens = np.bincount(which, weights=tokens)[filled] / count[filled]
    return mean_tokens.round().astype(np.int64), np.bincount(which, weights=loss)[filled] / count[filled]
