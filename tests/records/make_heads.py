"""Made-up rows of what is read from weights and from interventions, around one induction head and its helper.

The first layer's first head attends to the previous token; the last layer's last head reads it through its keys and
copies. Both grow with `after`, 0 before the bump and 1 behind it.
"""

from typing import Any

import numpy as np

Columns = dict[str, Any]
BASELINE = 0.125
"""Composition of random factors."""
GROUP = {"step": 200, "seed": 6006, "threshold": 0.1, "matched": [], "no_match": False}
"""What run.json keeps of the group, but for its heads."""
OF_TWO_LAYERS = ("composition_q", "composition_k", "composition_v", "qk_trace", "qk_eigenvalue")
ONE_LAYER = "one attention layer: there is no earlier head"
CHANCE = ("copying_logit_chance", 4 / 25 - 1, None)
"""A row of `scalars`: name, value, standard error."""
_QUANTITIES = ("loss", "icl_score", "icl_window_score", "ordered_copy_advantage")


def weight_measures(after: float, layers: int, n_heads: int, rng: np.random.Generator) -> Columns:
    """Rows of `heads`: copying of all heads, matching of those with an earlier layer."""
    columns: Columns = {"layer": [], "head": [], "measure": [], "value": [], "stderr": []}
    for layer in range(layers):
        for head in range(n_heads):
            grown = after if (layer, head) == (layers - 1, n_heads - 1) else 0.0
            values = {
                "copying_eigenvalue": 0.1 * rng.standard_normal() + 0.85 * grown,
                "copying_logit": -0.85 + 0.05 * rng.standard_normal() + 1.6 * grown,
            }
            if layer:
                values |= {
                    "qk_eigenvalue": 0.1 * rng.standard_normal() + 0.8 * grown,
                    "qk_trace": 20 * rng.standard_normal() + 900 * grown,
                }
            values |= {f"{name}_raw": value - 0.1 for name, value in values.items() if name != "copying_logit"}
            for name, value in values.items():
                stderr = 0.01 if name == "copying_logit" else None
                for key, entry in zip(columns, (layer, head, name, np.clip(value, -1, 1e9), stderr), strict=True):
                    columns[key].append(entry)
    return columns


def composition(after: float, layers: int, n_heads: int, rng: np.random.Generator) -> Columns:
    """Rows of `head_pairs`: near 0, but for the pair that forms the induction head."""
    places = np.array(
        [(a, h, b, g) for b in range(layers) for a in range(b) for h in range(n_heads) for g in range(n_heads)]
    )
    columns: Columns = {
        name: np.tile(places[:, i], 3) for i, name in enumerate(("layer_in", "head_in", "layer_out", "head_out"))
    }
    values = 0.015 * rng.standard_normal((3, len(places)))
    values[1, (places == (0, 0, layers - 1, n_heads - 1)).all(axis=1)] += 0.4 * after
    return columns | {
        "kind": np.repeat(["q", "k", "v"], len(places)).tolist(),
        "value": values.ravel(),
        "baseline": np.full(values.size, BASELINE),
    }


def ablations(after: float, layers: int, n_heads: int, rng: np.random.Generator, draws: int = 3) -> Columns:
    """Rows of `ablations`: two kinds, of every head, of the induction head as a group, and of matched sets."""
    columns: Columns = {name: [] for name in ("layer", "head", "group", "draw", "kind", "quantity", "value", "stderr")}

    def add(
        layer: int | None, head: int | None, group: str | None, draw: int | None, copies: float, helps: float
    ) -> None:
        for kind in ("zero", "pattern_preserving"):
            # With the patterns kept, a head that only shapes the patterns of others costs nothing.
            cost = after * (copies + (helps if kind == "zero" else 0.0))
            for quantity in _QUANTITIES:
                share = {"loss": 0.3, "ordered_copy_advantage": -3.0}.get(quantity, 0.8)
                value = share * cost + 0.005 * rng.standard_normal()
                row = (layer, head, group, draw, kind, quantity, value, 0.005)
                for key, entry in zip(columns, row, strict=True):
                    columns[key].append(entry)

    for layer in range(layers):
        for head in range(n_heads):
            induces = (layer, head) == (layers - 1, n_heads - 1)
            add(layer, head, None, None, float(induces), 0.9 * ((layer, head) == (0, 0)))
    add(None, None, "induction", None, 1.0, 0.0)
    for draw in range(draws):
        add(None, None, "matched", draw, 0.02 * draw, 0.0)
    return columns


def paths(after: float, layers: int, n_heads: int, rng: np.random.Generator) -> Columns:
    """Rows of `paths`: losses of orders, and of single paths the change when added and when removed."""
    heads = [(layer, head) for layer in range(layers) for head in range(n_heads)]
    virtual = [(a, b) for a in heads for b in heads if a[0] < b[0]]
    entries = [
        ("all", order, "up_to", 5.4 - 0.5 * min(order, 1) * (1 + after) - 0.1 * (order > 1))
        for order in range(layers + 1)
    ]
    named = [("direct", 0, 2.0)]
    named += [(f"L{a}H{b}", 1, after * float((a, b) == heads[-1])) for a, b in heads]
    named += [(f"L{a}H{b}→L{c}H{d}", 2, 0.0) for (a, b), (c, d) in virtual]
    noise = 0.004 * rng.standard_normal((2, len(named)))
    for i, (name, order, worth) in enumerate(named):
        entries += [
            (name, order, "added", noise[0, i] - 0.5 * worth),
            (name, order, "removed", noise[1, i] + 0.8 * worth),
        ]
    path, order, how, value = (list(column) for column in zip(*entries, strict=True))
    return {"path": path, "order": order, "how": how, "value": value, "stderr": [0.003] * len(value)}
