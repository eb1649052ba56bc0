"""Further changes: what else changes in the stretches before and after the main change of in-context learning.

| event | searched for a change |
|---|---|
| `icl_further` | `icl_window_score` |
| `positions_further` | the mean loss of each of BANDS bands of positions, as wide as each other in ln |
| `components_further` | the leading principal components of the token losses, in root-mean-square nats a token |

A search counts as a change where its verdict does, at a level divided by the number of searches. Principal components
are chosen to move much, and those of a random walk are smooth curves that turn corners (Antognini & Sohl-Dickstein
2018), so theirs is a p of its own: the same ratio of drift to ramp on surrogates. A surrogate keeps each token's smooth
drift (a parabola in ln tokens) and the size, at each time, of what the losses do beyond it, with its correlations
between tokens; but the signs of those steps are drawn anew. Of each kind only the strongest is told.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from induction_bump.locate.change import DRAWS, LEAST_SNAPSHOTS, LEVEL, find_change
from induction_bump.locate.curve import Array, Curve, ProbeNoise, noise_of_stderrs
from induction_bump.locate.drift import DriftSearch, polynomial
from induction_bump.locate.outcome import LocatedChange, judged, random_of, unsolved
from induction_bump.locate.quantities import Quantity, icl
from induction_bump.locate.ramp import RampSearch, coarse_ramps
from induction_bump.locate.reading import NotApplicableError, Reading, scores_of

FURTHER = ("icl_further", "positions_further", "components_further")
BANDS = 6
_FIRST_POSITION = 4
"""Of the first positions each is a band of its own, with the noise of a single one."""
_CONFIRMING = 1999
"""Curves drawn where a search says that there is a change."""
COMPONENTS = 3
_LEAST_DROP_OF_COMPONENT = 0.02
"""Root-mean-square nats a token: less than that no reader of losses would call a change."""


def find_further(reading: Reading, main: LocatedChange) -> list[LocatedChange]:
    """The strongest further change of each kind, where there is one."""
    if reading.scalars.empty:
        return []
    searches = {
        "icl_further": _icl(reading, main),
        "positions_further": _positions(reading, main),
        "components_further": _components(reading, main),
    }
    found = [strongest(event, list(outcomes)) for event, outcomes in searches.items()]
    return [change for change in found if change is not None]


def strongest(event: str, searches: list[LocatedChange]) -> LocatedChange | None:
    """The largest of the changes that searches of one kind found; if none did, one that came to no result."""
    # the p of a component is of all components of its stretch
    tests = -(-len(searches) // COMPONENTS) if event == "components_further" else len(searches)
    places = [s for s in searches if s.found and s.change and s.change.p <= LEVEL / tests]
    if not places:
        return next(
            (replace(s, event=event, rule=f"{s.quantity}: {s.rule}") for s in searches if s.change is None), None
        )
    best = max(places, key=lambda s: s.change.place.drop.value if s.change and s.change.place else 0.0)
    others = f"; {len(places) - 1} weaker" if len(places) > 1 else ""
    return replace(best, event=event, rule=f"{best.quantity}: {best.rule}; of {len(searches)} searches{others}")


def stretches(tokens: npt.NDArray[np.int64], main: LocatedChange) -> list[npt.NDArray[np.bool_]]:
    """Which snapshots lie before and after the main change; all of them where there is none."""
    place = main.change.place if main.found and main.change else None
    parts = [tokens < place.onset.low, tokens > place.end.high] if place else [tokens > 0]
    return [part for part in parts if part.sum() >= LEAST_SNAPSHOTS]


def _search(reading: Reading, quantity: Quantity, main: LocatedChange) -> Iterator[LocatedChange]:
    for i, part in enumerate(stretches(quantity.curve.tokens, main)):
        within = replace(quantity, curve=quantity.curve.part(part))
        if np.ptp(within.curve.values):
            random = random_of(reading.info.run_id, f"{quantity.name}/{quantity.direction}/{i}")
            yield _searched(within, random)


def _searched(quantity: Quantity, random: np.random.Generator) -> LocatedChange:
    try:
        change = find_change(quantity.curve, direction=quantity.direction, random=random)
        if change.p <= LEVEL:  # of many searches: more draws, for a smaller p
            change = find_change(quantity.curve, direction=quantity.direction, random=random, draws=_CONFIRMING)
    except np.linalg.LinAlgError as error:
        return unsolved("", quantity.name, error)
    return judged("", quantity, change)


def _icl(reading: Reading, main: LocatedChange) -> Iterator[LocatedChange]:
    try:
        quantity = icl(reading)
    except NotApplicableError:
        return
    except np.linalg.LinAlgError as error:
        yield unsolved("", "icl_window_score", error)
        return
    if main.found:
        yield from _search(reading, quantity, main)


def _positions(reading: Reading, main: LocatedChange) -> Iterator[LocatedChange]:
    table = reading.run.table("positions").to_pandas()
    if table.empty:
        return
    last = int(table["position"].max())
    edges = np.unique(np.geomspace(min(_FIRST_POSITION, last), last + 1, BANDS + 1).astype(np.int64))
    for low, high in pairwise(edges.tolist()):
        rows = table[(table["position"] >= low) & (table["position"] < high)].groupby(["step", "tokens"])
        means = rows[["loss", "stderr"]].mean().reset_index()
        curve = Curve(
            means["step"].to_numpy(np.int64),
            means["tokens"].to_numpy(np.int64),
            means["loss"].to_numpy(np.float64),
            # positions of one example are no independent examples: their mean has about the error of one
            noise_of_stderrs(means["stderr"].to_numpy(np.float64)),
        )
        curve = curve.part(reading.warm(curve.tokens))
        name = f"loss at positions {low}–{high - 1}"
        if np.isfinite(curve.values).all():
            yield from _search(reading, Quantity(name, " nats", curve, -1, reading.options.change_drop), main)


def _components(reading: Reading, main: LocatedChange) -> Iterator[LocatedChange]:
    try:
        scores, steps = scores_of(reading, reading.run.table("tokens"), "loss", "token losses")
    except NotApplicableError:
        return
    warm = reading.warm(scores.tokens)
    for i, part in enumerate(stretches(scores.tokens, main)):
        keep = part & warm
        if keep.sum() < LEAST_SNAPSHOTS:
            continue
        random = random_of(reading.info.run_id, f"components/{i}")
        try:
            yield from search_components(scores.values[keep], steps[keep], scores.tokens[keep], random)
        except np.linalg.LinAlgError as error:
            yield unsolved("", "principal components", error)


def search_components(
    losses: Array, steps: npt.NDArray[np.int64], tokens: npt.NDArray[np.int64], random: np.random.Generator
) -> Iterator[LocatedChange]:
    """A search in each of the leading principal components of S × N token losses."""
    by_chance = surrogate_ratios(losses, np.log(tokens.astype(np.float64)), random)
    for k, values in enumerate(principal_components(losses).T):
        curve = Curve(steps, tokens, values, ProbeNoise(np.zeros((len(values), 0)), np.zeros(len(values))))
        direction = 1 if values[-1] >= values[0] else -1
        quantity = Quantity(f"principal component {k + 1}", " nats", curve, direction, _LEAST_DROP_OF_COMPONENT)
        change = find_change(curve, direction=direction, random=random)
        seen = corner_ratios(curve.x, values[:, None])[0]
        p = float((1 + (by_chance >= seen).sum()) / (len(by_chance) + 1))
        yield judged("", quantity, replace(change, p=max(p, change.p), drift="surrogate drift"))


def principal_components(losses: Array) -> Array:
    """S × COMPONENTS: the leading principal components of S × N token losses, in root-mean-square nats a token."""
    centred = losses - losses.mean(0)
    k = min(COMPONENTS, *losses.shape)
    # there are far more tokens than snapshots
    variances, left = np.linalg.eigh(centred @ centred.T / losses.shape[1])
    scores: Array = left[:, ::-1][:, :k] * np.sqrt(np.maximum(variances[::-1][:k], 0.0))
    return scores


def corner_ratios(x: Array, values: Array) -> Array:
    """D: by how much the best ramp explains each of S × D curves better than the best drift, either way up."""
    even = np.eye(len(x))
    ramps, drifts = RampSearch(x, coarse_ramps(x), even), DriftSearch(x, even)
    ratios: Array = drifts.least(values) / ramps.fit(values).rss.min(0)
    return ratios


def surrogate_ratios(losses: Array, x: Array, random: np.random.Generator, draws: int = DRAWS) -> Array:
    """`draws`: the largest of the leading components' `corner_ratios`, of surrogates of S × N token losses."""
    smooth = polynomial(x, 2)
    drift = smooth @ np.linalg.lstsq(smooth, losses, rcond=None)[0]
    steps = np.diff(losses - drift, axis=0)
    drawn = []
    for _ in range(draws):
        signs = random.choice([-1.0, 1.0], size=(len(steps), 1))
        walked = np.concatenate([np.zeros((1, losses.shape[1])), np.cumsum(signs * steps, axis=0)])
        drawn.append(principal_components(drift + walked))
    stacked = np.concatenate(drawn, axis=1)
    ratios: Array = corner_ratios(x, stacked).reshape(draws, -1).max(1)
    return ratios
