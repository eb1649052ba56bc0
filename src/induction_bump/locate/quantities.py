"""The quantities of a run whose phase change is looked for, each as a curve with its noise.

| change | quantity | noise of the probe | direction | least drop |
|---|---|---|---|---|
| `icl_change` | `icl_window_score` | from its examples, by document | falls | `change_drop` nats |
| `copy_advantage_change` | `ordered_copy_advantage` | its standard errors | rises | that of the event |
| `prefix_matching_change` | `prefix_matching`, best head at the end | its standard errors | rises | `head_floor` |

Step 0 is left out, and all before the learning rate has come to half its peak: there the model learns how frequent
tokens are.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from induction_bump.locate.curve import Curve, ProbeNoise, TooFewDocumentsError, noise_of_examples, noise_of_stderrs
from induction_bump.locate.heads import counted_heads, head_name, head_scores
from induction_bump.locate.reading import NotApplicableError, Reading, finite

LEAST_FINAL = 0.1
"""A share of the final score is told where that is larger than this, in nats."""


@dataclass(frozen=True)
class Quantity:
    """A curve, and what counts as a change of it."""

    name: str
    """With the head, where it is one's."""
    unit: str
    """With a space before it, where there is one."""
    curve: Curve
    direction: int
    """−1 where it falls, +1 where it rises."""
    least_drop: float
    least_final: float | None = None
    """The least final value of which a share is told; None for never."""


def icl(reading: Reading) -> Quantity:
    """`icl_window_score`. Raises NotApplicableError where no example of it is recorded."""
    scores, steps = reading.icl_scores
    try:
        probe = noise_of_examples(scores.values, scores.documents)
    except TooFewDocumentsError as error:
        raise NotApplicableError(str(error)) from None
    curve = _after_warmup(Curve(steps, scores.tokens, scores.values.mean(1), probe), reading)
    return Quantity("icl_window_score", " nats", curve, -1, reading.options.change_drop, LEAST_FINAL)


def copy_advantage(reading: Reading) -> Quantity:
    """`ordered_copy_advantage`. Raises NotApplicableError where it is not recorded."""
    rows = reading.scalar("ordered_copy_advantage")
    least = min(reading.options.copy_nats, 0.5 * math.log(float(reading.info.probes["repeats"]["pool"])))
    return Quantity("ordered_copy_advantage", " nats", _with_stderrs(rows, reading), +1, least)


def prefix_matching(reading: Reading) -> Quantity:
    """Prefix matching of the counted head that has most of it at the last snapshot.

    Raises NotApplicableError where there is no such head.
    """
    heads = counted_heads(reading.model)
    scores = head_scores(reading.heads, "prefix_matching").only(heads)
    if not scores.heads:
        raise NotApplicableError("the records hold no prefix_matching" if heads else "no head that counts")
    layer, head = scores.heads[int(finite(scores.values, "prefix_matching")[-1].argmax())]
    rows = reading.heads.query("measure == 'prefix_matching' and layer == @layer and head == @head")
    name = f"prefix_matching of {head_name((layer, head))}"
    return Quantity(name, "", _with_stderrs(rows.sort_values("step"), reading), +1, reading.options.head_floor)


def _with_stderrs(rows: pd.DataFrame, reading: Reading) -> Curve:
    values = finite(rows["value"].to_numpy(np.float64), "it")
    probe: ProbeNoise = noise_of_stderrs(rows["stderr"].to_numpy(np.float64))
    curve = Curve(rows["step"].to_numpy(np.int64), rows["tokens"].to_numpy(np.int64), values, probe)
    return _after_warmup(curve, reading)


def _after_warmup(curve: Curve, reading: Reading) -> Curve:
    return curve.part(reading.warm(curve.tokens))
