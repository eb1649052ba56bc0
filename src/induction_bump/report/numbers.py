"""Arrays as compact JSON numbers."""

import json
from typing import Any

import numpy as np

from induction_bump.report.contents import Array


def rounded(values: Array, decimals: int = 4) -> list[Any]:
    """Nested lists of the rounded values; what is not finite becomes null."""
    short = np.round(np.asarray(values, dtype=np.float64), decimals)
    if np.isfinite(short).all():
        return short.tolist()
    filled = short.astype(object)
    filled[~np.isfinite(short)] = None
    return filled.tolist()


def known(values: Array) -> bool:
    """Whether there is a single number to draw."""
    return bool(np.isfinite(values).any())


def inline_json(value: Any) -> str:
    """JSON that may stand inside a `<script>` whatever text it holds.

    Raises ValueError for NaN or infinity, which JSON does not have.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(character, escape)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
