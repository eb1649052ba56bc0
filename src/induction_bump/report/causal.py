"""What interventions change: the induction heads together against matched sets, and the loss by path order."""

from typing import Any

import numpy as np

from induction_bump.report.contents import Curve, RunContents, head_name
from induction_bump.report.curves import Figure, curve, moments, not_measured, seldom, spread
from induction_bump.report.numbers import known, rounded, significant
from induction_bump.report.sparse import Estimates, Paths

_MOST_PATHS = 12
_SECTION = "Ablations and paths"


def causal_figures(run: RunContents) -> list[Figure]:
    """Groups of heads and path order; the effect of single heads is a figure of the heads."""
    return [_group(run), _paths(run)]


def _group(run: RunContents) -> Figure:
    figure: Figure = {
        "id": "group",
        "section": _SECTION,
        "kind": "time",
        "title": "Ordered copy advantage lost without the induction heads",
        "caption": "All induction heads ablated together, against sets of as many other heads of the same layers. If "
        "the bump is theirs, the two part where it happens.",
        "y": "advantage lost (nats per token)",
        "traces": [],
        "legend": [],
    }
    chosen = run.info.groups.get("induction") or {}
    if chosen and not chosen.get("heads"):
        return figure | {"empty": f"No head counted as an induction head at step {chosen.get('step'):,}."}
    groups = run.ablations.groups if run.ablations else {}
    kind = next(
        (k for k in ("pattern_preserving", "zero", "mean") if ("induction", k, "ordered_copy_advantage") in groups), ""
    )
    if not kind:
        return figure | not_measured(run, ["group_ablation"])
    figure["caption"] += _who(chosen)
    together = groups["induction", kind, "ordered_copy_advantage"]
    matched = groups.get(("matched", kind, "ordered_copy_advantage"))
    if matched is not None and known(matched.values):
        _add(figure, _matched(matched), f"{matched.values.shape[1]} matched sets: median and range")
    elif chosen.get("no_match"):
        figure["caption"] += " Too few other heads are left for a matched set."
    style = {"color": "--series-1", "dash": "solid"}
    drawn = Curve(-together.values[:, 0], together.stderr[:, 0])
    _add(figure, curve("ablations", "group:induction", "induction heads", drawn, style), "induction heads together")
    figure["legend"].reverse()
    return figure | seldom(run, run.ablations.moments.tokens, ["group_ablation"]) if run.ablations else figure


def _who(chosen: dict[str, Any]) -> str:
    """Which heads, and when they were chosen."""
    heads = [head_name(int(layer), int(head)) for layer, head in chosen.get("heads", [])]
    if not heads:
        return ""
    named = ", ".join(heads[:6]) + (f" and {len(heads) - 6} more" if len(heads) > 6 else "")
    return f" Heads: {named}, chosen at step {chosen['step']:,} on repeats of another seed."


def _matched(found: Estimates) -> dict[str, Any]:
    """Median over the draws with a band from the least to the most that any of them loses."""
    lost = -found.values
    there = np.isfinite(lost).any(axis=1)
    middle, low, high = (np.full(len(lost), np.nan) for _ in range(3))
    middle[there] = np.nanmedian(lost[there], axis=1)
    low[there], high[there] = np.nanmin(lost[there], axis=1), np.nanmax(lost[there], axis=1)
    style = {"color": "--series-6", "dash": "dash"}
    nothing = np.full(len(lost), np.nan)
    between = [rounded(low), rounded(high)]
    return curve("ablations", "group:matched", "matched sets", Curve(middle, nothing), style, between=between)


def _add(figure: Figure, trace: dict[str, Any], label: str) -> None:
    style = {key: trace["line"][key] for key in ("color", "dash")}
    figure["traces"].append(trace)
    figure["legend"].append({"key": trace["legendgroup"], "label": label, **style})


def _paths(run: RunContents) -> Figure:
    figure: Figure = {
        "id": "paths",
        "section": _SECTION,
        "kind": "paths",
        "title": "Loss by path order",
        "caption": "Patterns and norm scales frozen. By order: the loss with all paths through at most so many heads; "
        "order 0 is the direct path alone, the last is the full loss.",
    }
    if run.paths is None or not len(run.paths.orders):
        return figure | not_measured(run, ["path_order"])
    kept = spread(len(run.paths.moments.steps), 200)
    # Since patterns are frozen, the direct path is order 0 itself; as a bar it would dwarf every other.
    columns = [i for i, name in enumerate(run.paths.names) if name != "direct"]
    largest = [value for at in kept for value in _largest(run.paths, at, columns)]
    if columns:
        figure["caption"] += (
            " By path: what it saves when added to the direct path, and what is lost when it is taken from all."
        )
    else:
        figure["caption"] += " Single paths are defined in attention-only models."
    return moments(figure, run.paths.moments.steps, run.paths.moments.tokens, kept) | {
        "orders": run.paths.orders.tolist(),
        "loss": significant(run.paths.up_to.values[kept]),
        "loss_stderr": significant(run.paths.up_to.stderr[kept], 2),
        "paths": [_important(run.paths, at, columns) for at in kept] if columns else [],
        "ends": [round(min([0.0, *largest]), 4), round(max([0.0, *largest]), 4)],
    }


def _worth(paths: Paths, at: int) -> tuple[Any, Any]:
    """Nats that each path saves alone, and that are lost without it; positive where it helps."""
    return -paths.added.values[at], paths.removed.values[at]


def _important(paths: Paths, at: int, columns: list[int]) -> dict[str, Any]:
    """The paths of one snapshot that matter most, the first the most."""
    saved, lost = _worth(paths, at)
    filled = np.nan_to_num(np.maximum(np.abs(saved), np.abs(lost))[columns], nan=-1.0)
    best = [columns[i] for i in np.argsort(-filled, kind="stable")[:_MOST_PATHS] if filled[i] >= 0]
    return {
        "names": [paths.names[i] for i in best],
        "saved": significant(saved[best]),
        "lost": significant(lost[best]),
        "saved_stderr": significant(paths.added.stderr[at, best], 2),
        "lost_stderr": significant(paths.removed.stderr[at, best], 2),
    }


def _largest(paths: Paths, at: int, columns: list[int]) -> list[float]:
    both = np.concatenate([worth[columns] for worth in _worth(paths, at)])
    there = both[np.isfinite(both)]
    return [float(there.min()), float(there.max())] if len(there) else []
