"""The curves that calibration.py draws: changes, one thing varied at a time, and nulls."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.simulated_curves import Setting, times, truth

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
    "phi per snapshot": MIDDLE.but(per_snapshot=True),
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


def _fresh(random: np.random.Generator, **shape: Any) -> Setting:
    """Everything drawn at random, until the change can be identified."""
    while True:
        setting = Setting(
            place=random.uniform(0.35, 0.85),
            width=np.exp(random.uniform(np.log(0.12), np.log(0.9))),
            drop=np.exp(random.uniform(np.log(0.35), np.log(2.5))),
            before=random.uniform(-0.05, 0.01),
            after=random.uniform(-0.10, 0.0),
            jitter=np.exp(random.uniform(np.log(0.004), np.log(0.025))),
            phi=random.uniform(0.0, 0.85),
            outliers=random.choice([0.0, 0.0, 0.02]),
            snapshots=int(random.integers(40, 160)),
            grid=str(random.choice(["linear", "linear", "log"])),
            examples=int(random.choice([64, 96, 128, 256])),
            per_document=int(random.choice([1, 2, 4])),
        ).but(**{name: value(random) for name, value in shape.items()})
        x, known = np.log(times(setting)), truth(setting)
        inside = (x > known.onset) & (x < known.end)
        if inside.sum() >= 2 and min((x < known.onset).sum(), (x > known.end).sum()) >= 5:
            return setting


FRESH: dict[str, Callable[[np.random.Generator], Setting]] = {
    "fresh, straight": _fresh,
    "fresh, logistic": lambda random: _fresh(random, logistic=lambda _: True),
    "fresh, relaxing": lambda random: _fresh(
        random, relaxing=lambda r: r.uniform(0.05, 0.4), relaxing_over=lambda r: r.uniform(0.2, 1.0)
    ),
}
"""Name → the setting of one curve: each curve has its own, none of which the method was adjusted to."""

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
NULLS["curved, phi 0.9 per snapshot"] = NULLS["curved, phi 0.9"].but(per_snapshot=True)
