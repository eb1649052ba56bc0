"""Slopes of the loss in the logarithm of tokens and of position."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

REACH = 0.1
"""A slope is fitted to the places at most so far away in the logarithm, which is about a tenth more or less …"""
NEIGHBOURS = 2
"""… and to at least so many on either side, where there are as many."""
BINS = 16
"""Of positions, evenly spaced in their logarithm: single positions are too noisy to differentiate."""


def slope_in_log(at: ArrayLike, values: ArrayLike) -> np.ndarray:
    """d value / d ln at, at each of S places: the least-squares slope through the places near it.

    `at` (S, positive, increasing), `values` (S) or (S, C) for C curves; returns the shape of `values`. Raises
    ValueError for fewer than two places.
    """
    x, y = np.log(np.asarray(at, float)), np.asarray(values, float)
    if len(x) < 2:
        raise ValueError(f"a slope needs two places, and there are {len(x)}")
    slopes = np.empty_like(y)
    for place in range(len(x)):
        near = np.abs(x - x[place]) <= REACH
        near[max(0, place - NEIGHBOURS) : place + NEIGHBOURS + 1] = True
        away = x[near] - x[near].mean()
        slopes[place] = away @ y[near] / (away @ away)
    return slopes


def slopes_by_position(positions: pd.DataFrame) -> pd.DataFrame:
    """d loss / d ln k from the table `positions` of one run: step, tokens, position, value (nats).

    Positions are binned evenly in ln k, and a bin is named by its geometric mean.
    """
    wide = positions.pivot(index="position", columns=["step", "tokens"], values="loss").sort_index()
    k = wide.index.to_numpy(float)
    edges = np.unique(np.geomspace(1, k.max() + 1, BINS + 1).round())
    place = np.searchsorted(edges, k, side="right")
    centre = np.exp(pd.Series(np.log(k)).groupby(place).mean()).to_numpy()
    binned = wide.groupby(place).mean()
    slopes = pd.DataFrame(slope_in_log(centre, binned), index=pd.Index(centre, name="position"), columns=wide.columns)
    return slopes.stack(["step", "tokens"], future_stack=True).rename("value").reset_index()
