"""When the in-context-learning score leaves its plateau: the event `icl`.

The change at tokens t is taken from a plateau before it: each example's mean over the snapshots in [t/4, t/2], or at
the last snapshot before t/4 where none lies there. So a change has to pass the threshold within a factor of four in
tokens; a drift that takes the whole training does not, while an abrupt change, at most a factor of three from onset to
end, is over before the plateau has moved into it. Step 0 is never part of a plateau, and nothing is before the learning
rate has come to half its peak: there the model learns how frequent tokens are, which moves the score by about 0.1.

Every example is compared with itself, so that how hard the examples are drops out of the standard error.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from induction_bump.locate.crossing import Crossing, first_sustained
from induction_bump.measures.statistics import clustered_mean

NEAR, FAR = 2.0, 4.0
"""A plateau reaches from tokens / FAR to tokens / NEAR."""


@dataclass(frozen=True)
class Scores:
    """One score per example over the snapshots."""

    tokens: npt.NDArray[np.int64]
    """S, rising."""
    values: npt.NDArray[np.float64]
    """S × N."""
    documents: npt.NDArray[np.int64]
    """N: the document of each example, by which standard errors are clustered."""


@dataclass(frozen=True)
class Departure:
    """The outcome, and the plateau that it was judged against (None where the score never left one)."""

    crossing: Crossing
    plateau: tuple[int, ...] | None


def plateau_before(tokens: npt.NDArray[np.int64], i: int, start: float) -> tuple[int, ...]:
    """Indices of the snapshots that snapshot i is compared with; none lies before `start` tokens or at step 0."""
    usable = np.flatnonzero((tokens > 0) & (tokens >= start) & (tokens * NEAR <= tokens[i]))
    within = usable[tokens[usable] * FAR >= tokens[i]]
    return tuple(int(j) for j in (within if within.size else usable[-1:]))


def change(scores: Scores, plateau: tuple[int, ...], j: int) -> tuple[float, float]:
    """Paired change of the mean score from a plateau to snapshot j, and its standard error.

    Raises ValueError where the examples come from fewer than two documents.
    """
    estimate = clustered_mean(scores.values[j] - scores.values[list(plateau)].mean(0), scores.documents)
    return float(estimate.value), float(estimate.stderr)


def first_departure(
    scores: Scores, *, drop: float, standard_errors: float, start: float, sustain: int, ended: bool
) -> Departure:
    """The first snapshot whose score lies `drop` nats and `standard_errors` below a plateau, and keeps below it.

    start: tokens before which nothing is a plateau. The interval's lower end is the last snapshot that has not fallen
    so far below the same plateau. Raises ValueError where the examples come from fewer than two documents.
    """

    @cache
    def fallen(plateau: tuple[int, ...], j: int) -> bool:
        if not plateau or j <= plateau[-1]:
            return False
        moved, stderr = change(scores, plateau, j)
        return moved <= -drop and moved <= -standard_errors * stderr

    plateaus = [plateau_before(scores.tokens, i, start) for i in range(len(scores.tokens))]
    found = first_sustained(len(plateaus), lambda i, j: fallen(plateaus[i], j), sustain, ended=ended)
    return Departure(found, None if found.seen_from is None else plateaus[found.seen_from])
