"""Curves with a known change, or with none: what calibration.py draws.

A curve is the mean over a probe's examples of

    offset_i + (1 + spread · z_d(i)) · mean(t) + flutter_is + jitter_s

with z one number a document, `flutter` an AR(1) of each example, and `jitter` an AR(1) that all examples share, as they
share the weights of each snapshot. Both forget in tokens: two snapshots a step apart hardly differ. `mean` is what
locating should find, or a drift.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from induction_bump.locate.curve import Array, Curve, noise_of_examples

FIRST, LAST = 0.2e6, 5e6
"""Tokens at the first and last snapshot, as in the quickstart after warm-up."""


@dataclass(frozen=True)
class Truth:
    """When a change begins and ends (in ln tokens; of a logistic one where its steepest tangent does) and its drop."""

    onset: float
    end: float
    drop: float


@dataclass(frozen=True)
class Setting:
    """How a curve is drawn. The defaults are the middle of the table."""

    place: float = 0.6
    """Of the midpoint, as a share of the way from the first to the last snapshot in ln tokens."""
    width: float = 0.3
    """ln(end/onset)."""
    drop: float = 1.0
    """Nats."""
    logistic: bool = False
    """A logistic ramp instead of a straight one."""
    before: float = -0.02
    """Drift before the onset, in nats per e-fold of tokens."""
    after: float = -0.05
    """And after the end."""
    relaxing: float = 0.0
    """Nats that are gained after the end, beyond the drop."""
    relaxing_over: float = 0.5
    """E-folds of tokens until 63 % of them are gained."""
    jitter: float = 0.01
    """Standard deviation in nats."""
    phi: float = 0.6
    """Its correlation over the median distance of two snapshots."""
    per_snapshot: bool = False
    """Whether it is the same between any two neighbours instead, near or far, unlike what locating assumes."""
    outliers: float = 0.0
    """Share of snapshots that lie off by five times the jitter."""
    snapshots: int = 60
    grid: str = "linear"
    """`linear`, with ten more on a logarithmic grid, as runs take them, or `log`."""
    examples: int = 96
    per_document: int = 2
    drift: Callable[[Array], Array] | None = field(default=None, compare=False)
    """Of x − ln FIRST, instead of a change: a null curve."""

    def but(self, **values: object) -> "Setting":
        """The same with other values."""
        return replace(self, **values)  # pyright: ignore[reportArgumentType]


def random_of(name: str, number: int) -> np.random.Generator:
    """The generator of one draw of a setting or kind."""
    return np.random.default_rng(list(hashlib.sha256(f"{name}/{number}".encode()).digest()[:8]))


def times(setting: Setting) -> np.ndarray:
    """Tokens of the snapshots."""
    if setting.grid == "log":
        return np.unique(np.geomspace(FIRST, LAST, setting.snapshots).astype(np.int64))
    linear = np.linspace(FIRST, LAST, setting.snapshots - 10)
    return np.unique(np.concatenate([linear, np.geomspace(FIRST * 1.03, LAST * 0.97, 10)]).astype(np.int64))


def truth(setting: Setting) -> Truth:
    """What is true of the curves of a setting that have a change."""
    middle = np.log(FIRST) + setting.place * np.log(LAST / FIRST)
    return Truth(middle - setting.width / 2, middle + setting.width / 2, setting.drop)


def mean_curve(setting: Setting, x: Array) -> Array:
    """The curve without noise, at x = ln tokens."""
    if setting.drift is not None:
        return setting.drift(x - np.log(FIRST))
    known = truth(setting)
    middle = (known.onset + known.end) / 2
    before, after = setting.before * (x - middle), setting.after * (x - middle) - setting.drop
    gone = setting.relaxing * (1 - np.exp(-np.maximum(x - known.end, 0.0) / setting.relaxing_over))
    z = (x - known.onset) / setting.width
    if setting.logistic:
        # four scales from level to level along its steepest tangent
        risen = 1 / (1 + np.exp(-4 * (z - 0.5)))
        return before + risen * (after - before) - gone
    onset, end = -setting.before * setting.width / 2, setting.after * setting.width / 2 - setting.drop
    ramp = onset + (end - onset) * z
    return np.where(z < 0, before, np.where(z > 1, after, ramp)) - gone


def autoregressive(distances: Array, phi: float, columns: int, random: np.random.Generator) -> Array:
    """S × columns: AR(1) of variance 1 over S − 1 distances, with correlation φ over a distance of 1."""
    drawn = random.standard_normal((len(distances) + 1, columns))
    kept = phi**distances
    for i, share in enumerate(kept, start=1):
        drawn[i] = share * drawn[i - 1] + np.sqrt(1 - share**2) * drawn[i]
    return drawn


def draw(setting: Setting, random: np.random.Generator) -> Curve:
    """One curve with its probe's noise, as it would be read from records."""
    tokens = times(setting)
    x = np.log(tokens.astype(np.float64))
    documents = np.arange(setting.examples) // setting.per_document
    of_document = random.standard_normal(documents[-1] + 1)[documents]
    offsets = 0.3 * random.standard_normal(setting.examples) + 0.1 * of_document
    examples = offsets + (1 + 0.3 * of_document) * mean_curve(setting, x)[:, None]
    distances = np.diff(tokens) / np.median(np.diff(tokens))
    examples += 0.1 * autoregressive(distances, 0.7, setting.examples, random)
    distances = np.ones_like(distances) if setting.per_snapshot else distances
    jitter = setting.jitter * autoregressive(distances, setting.phi, 1, random)[:, 0]
    off = random.random(len(x)) < setting.outliers
    jitter += off * 5 * setting.jitter * random.choice([-1.0, 1.0], len(x))
    values = examples + jitter[:, None]
    probe = noise_of_examples(values, documents)
    return Curve(np.arange(1, len(x) + 1), tokens, values.mean(1), probe)
