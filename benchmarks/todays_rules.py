"""Rules by which people mark a change today, for calibration.py: an onset and an end, without an interval.

Each takes x = ln(tokens) and a curve that falls, S each, and gives onset and end in x, or None where it sees no change.
"""

import numpy as np

from induction_bump.locate.curve import Array

LEAST_DROP = 0.1
"""Nats that a rule asks for, where it asks for anything: the same as the verdict."""
_FIRST = 5
"""Snapshots whose mean is the level before."""

Marked = tuple[float, float] | None


def steepest_step(x: Array, y: Array) -> Marked:
    """The two neighbouring snapshots between which it falls fastest, if it falls by LEAST_DROP there."""
    i = int((np.diff(y) / np.diff(x)).argmin())
    return (float(x[i]), float(x[i + 1])) if y[i] - y[i + 1] >= LEAST_DROP else None


def threshold(x: Array, y: Array) -> Marked:
    """From where it is LEAST_DROP below its first values for three snapshots, to where it is that near its end."""
    below = y <= y[:_FIRST].mean() - LEAST_DROP
    held = np.flatnonzero(below[:-2] & below[1:-1] & below[2:])
    if not held.size:
        return None
    near_end = y <= y[-_FIRST:].mean() + LEAST_DROP
    return float(x[held[0]]), float(max(x[int(near_end.argmax())], x[held[0]]))


def share_of_maximum(x: Array, y: Array) -> Marked:
    """From 10 to 90 % of the way from the first value to the least, if that is LEAST_DROP."""
    gained = (y[0] - np.minimum.accumulate(y)) / max(y[0] - y.min(), 1e-12)
    if y[0] - y.min() < LEAST_DROP:
        return None
    return float(x[int((gained >= 0.1).argmax())]), float(x[int((gained >= 0.9).argmax())])


def second_difference(x: Array, y: Array) -> Marked:
    """From the sharpest downward bend to the sharpest upward one after it, if it falls by LEAST_DROP between them."""
    slopes = np.diff(y) / np.diff(x)
    bends = np.diff(slopes)
    onset = int(bends.argmin()) + 1
    if onset >= len(x) - 2:
        return None
    end = onset + 1 + int(bends[onset:].argmax()) if onset < len(bends) else len(x) - 1
    return (float(x[onset]), float(x[end])) if y[onset] - y[end] >= LEAST_DROP else None


def two_breaks(x: Array, y: Array) -> Marked:
    """Two breaks of a continuous piecewise linear curve (`ruptures`: Dynp, cost `clinear`), over the snapshots."""
    import ruptures

    onset, end, _ = ruptures.Dynp(model="clinear", min_size=2, jump=1).fit(y[:, None]).predict(n_bkps=2)
    end = min(end, len(x) - 1)
    return (float(x[onset]), float(x[end])) if y[onset] - y[end] >= LEAST_DROP else None


RULES = {
    "steepest step": steepest_step,
    "threshold": threshold,
    "share of maximum": share_of_maximum,
    "second difference": second_difference,
    "ruptures": two_breaks,
}
