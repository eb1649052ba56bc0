"""Tables that are there at some snapshots only, as arrays: composition, ablations, path order.

Shape letters: E snapshots that have the table, L attention layers, H heads per layer, O orders, P paths, N draws.
A value that a snapshot does not have is NaN.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Moments:
    """The snapshots of a table: `steps` and `tokens`, each [E]."""

    steps: Array
    tokens: Array


@dataclass(frozen=True)
class Estimates:
    """Values with their standard errors, of one shape."""

    values: Array
    stderr: Array


@dataclass(frozen=True)
class Pairs:
    """Composition by kind (q, k, v), each [E, L, H, L, H]: heads that write, then heads that read.

    Values are above `baseline`, the mean for random factors of the same shapes.
    """

    moments: Moments
    values: Mapping[str, Array]
    baseline: Mapping[str, float]


@dataclass(frozen=True)
class Ablations:
    """Changes by (kind, quantity): ablated minus intact."""

    moments: Moments
    heads: Mapping[tuple[str, str], Estimates]
    """Of single heads, each [E, L, H]."""
    groups: Mapping[tuple[str, str, str], Estimates]
    """Of sets of heads, by (group, kind, quantity), each [E, N]: one draw for the group itself, more for others."""


@dataclass(frozen=True)
class Paths:
    """Path order in nats: the loss with all paths up to an order, and what single paths change."""

    moments: Moments
    orders: Array
    """[O], from 0: the direct path alone."""
    up_to: Estimates
    """Loss [E, O]."""
    names: list[str]
    added: Estimates
    """Change [E, P] when a path is added to the direct path alone."""
    removed: Estimates
    """Change [E, P] when a path is removed from all."""


def read_pairs(table: pa.Table, shape: tuple[int, int] = (0, 0)) -> Pairs | None:
    """Composition; None where the table is empty. L and H are at least `shape`: heads held at zero have no pairs."""
    if not table.num_rows:
        return None
    moments, at = _moments(table)
    kinds, which = _categories(table, "kind")
    layer_in, head_in = _whole(table, "layer_in"), _whole(table, "head_in")
    layer_out, head_out = _whole(table, "layer_out"), _whole(table, "head_out")
    layers = max(shape[0], layer_out.max() + 1)
    heads = max(shape[1], head_in.max() + 1, head_out.max() + 1)
    values = np.full((len(kinds), len(moments.steps), layers, heads, layers, heads), np.nan, dtype=np.float32)
    values[which, at, layer_in, head_in, layer_out, head_out] = _floats(table, "value")
    baseline = _floats(table, "baseline")
    return Pairs(
        moments,
        {kind: values[i] for i, kind in enumerate(kinds)},
        {kind: float(baseline[which == i].mean()) for i, kind in enumerate(kinds)},
    )


def read_ablations(table: pa.Table, shape: tuple[int, int] = (0, 0)) -> Ablations | None:
    """Ablations of heads and of groups; None where the table is empty. L and H are at least `shape`."""
    if not table.num_rows:
        return None
    moments, at = _moments(table)
    what = np.char.add(np.char.add(_texts(table, "kind"), "\n"), _texts(table, "quantity"))
    groups = np.asarray(table.column("group").to_pylist(), dtype=object)
    single = np.array([group is None for group in groups])
    heads: dict[tuple[str, str], Estimates] = {}
    if single.any():
        layer, head = _whole(table, "layer"), _whole(table, "head")
        whole = (max(shape[0], layer[single].max() + 1), max(shape[1], head[single].max() + 1))
        for name in np.unique(what[single]):
            chosen = single & (what == name)
            kind, quantity = str(name).split("\n")
            heads[kind, quantity] = _estimates(table, chosen, (at, layer, head), (len(moments.steps), *whole))
    sets: dict[tuple[str, str, str], Estimates] = {}
    draw = np.maximum(_whole(table, "draw"), 0)
    for group in dict.fromkeys(groups[~single]):
        for name in np.unique(what[groups == group]):
            chosen = (groups == group) & (what == name)
            kind, quantity = str(name).split("\n")
            draws = draw[chosen].max() + 1
            sets[str(group), kind, quantity] = _estimates(table, chosen, (at, draw), (len(moments.steps), draws))
    return Ablations(moments, heads, sets)


def read_paths(table: pa.Table) -> Paths | None:
    """Path order; None where the table is empty."""
    if not table.num_rows:
        return None
    moments, at = _moments(table)
    how, path, order = _texts(table, "how"), _texts(table, "path"), _whole(table, "order")
    up_to = how == "up_to"
    names, place = np.unique(np.where(up_to, "", path), return_inverse=True)
    shape = (len(moments.steps), len(names))
    paths = names != ""
    single = {name: _estimates(table, how == name, (at, place), shape, columns=paths) for name in ("added", "removed")}
    orders = np.arange(order[up_to].max() + 1 if up_to.any() else 0)
    return Paths(
        moments,
        orders,
        _estimates(table, up_to, (at, order), (len(moments.steps), len(orders))),
        names[paths].tolist(),
        single["added"],
        single["removed"],
    )


def _estimates(
    table: pa.Table, chosen: Array, places: tuple[Array, ...], shape: tuple[int, ...], columns: Array | None = None
) -> Estimates:
    filled = np.full((2, *shape), np.nan)
    index = tuple(place[chosen] for place in places)
    for i, column in enumerate(("value", "stderr")):
        filled[(i, *index)] = _floats(table, column)[chosen]
    kept = filled if columns is None else filled[..., columns]
    return Estimates(kept[0], kept[1])


def _moments(table: pa.Table) -> tuple[Moments, Array]:
    steps, first, at = np.unique(table.column("step").to_numpy(), return_index=True, return_inverse=True)
    return Moments(steps, table.column("tokens").to_numpy()[first]), at


def _categories(table: pa.Table, column: str) -> tuple[list[str], Array]:
    encoded = table.column(column).combine_chunks().dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()


def _texts(table: pa.Table, column: str) -> Array:
    return np.asarray(table.column(column).to_pylist(), dtype=str)


def _whole(table: pa.Table, column: str) -> Array:
    """Integers; a null becomes −1."""
    return table.column(column).fill_null(-1).to_numpy().astype(np.int64)


def _floats(table: pa.Table, column: str) -> Array:
    return table.column(column).to_numpy().astype(np.float64)
