"""The curves that calibration.py draws: changes, one thing varied at a time, and nulls."""

import numpy as np

from benchmarks.simulated_curves import Setting

MIDDLE = Setting()

CHANGES = {
    "middle": MIDDLE,
    "width 0.15": MIDDLE.but(width=0.15),
    "width 0.8": MIDDLE.but(width=0.8),
    "width 1.6": MIDDLE.but(width=1.6),
    "drop 0.3": MIDDLE.but(drop=0.3),
    "drop 2.5": MIDDLE.but(drop=2.5),
    "logistic": MIDDLE.but(logistic=True),
    "logistic, width 0.8": MIDDLE.but(logistic=True, width=0.8),
    "jitter 0.03": MIDDLE.but(jitter=0.03),
    "jitter 0.03, phi 0.9": MIDDLE.but(jitter=0.03, phi=0.9),
    "phi 0": MIDDLE.but(phi=0.0),
    "outliers 3 %": MIDDLE.but(outliers=0.03),
    "early": MIDDLE.but(place=0.4),
    "late": MIDDLE.but(place=0.85),
    "log grid": MIDDLE.but(grid="log"),
    "30 snapshots": MIDDLE.but(snapshots=30),
    "200 snapshots": MIDDLE.but(snapshots=200),
    "512 examples": MIDDLE.but(examples=512),
    "relaxing": MIDDLE.but(relaxing=0.4),
    "logistic, relaxing": MIDDLE.but(logistic=True, drop=2.0, relaxing=0.5),
}
"""In all of these the ramp holds at least two snapshots and ends within the curve: the change can be identified."""

BETWEEN = {
    "between snapshots": MIDDLE.but(width=0.02),
    "between, 30 snapshots": MIDDLE.but(width=0.05, snapshots=30),
}
"""A ramp that lies between two snapshots: where in between, nothing tells."""

_NULLS = {
    "no change": lambda u: 0 * u,
    "line": lambda u: -0.1 * u,
    "curved": lambda u: -0.04 * u**2,
    "power law": lambda u: 0.5 * np.exp(-0.6 * u),
    "late gain": lambda u: -0.2 * 0.3 * np.logaddexp(0, (u - 2) / 0.3),
    "early transient": lambda u: 0.1 * np.exp(-3 * u),
}
"""Drifts over u = ln(tokens / first tokens). `late gain` is what one layer does: nothing, then a slow gain for good."""

NULLS = {
    f"{name}, {noise}": MIDDLE.but(drift=drift, **values)
    for name, drift in _NULLS.items()
    for noise, values in {
        "phi 0.6": {"jitter": 0.01, "phi": 0.6},
        "phi 0.9": {"jitter": 0.03, "phi": 0.9},
    }.items()
}
