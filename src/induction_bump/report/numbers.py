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


def significant(values: Array, figures: int = 4) -> list[Any]:
    """Nested lists of the values rounded to significant figures; what is not finite becomes null.

    >>> significant(np.array([1234.56, -0.00012345, np.nan]), 3)
    [1230.0, -0.000123, None]
    """
    exact = np.asarray(values, dtype=np.float64)
    size = np.abs(np.where(np.isfinite(exact) & (exact != 0), exact, 1.0))
    digits = figures - 1 - np.floor(np.log10(size)).astype(int)
    flat = [
        round(value, places) if np.isfinite(value) else None
        for value, places in zip(exact.ravel().tolist(), digits.ravel().tolist(), strict=True)
    ]
    return _shaped(flat, exact.shape)


def _shaped(flat: list[Any], shape: tuple[int, ...]) -> list[Any]:
    if len(shape) <= 1:
        return flat
    width = len(flat) // shape[0] if shape[0] else 0
    return [_shaped(flat[i * width : (i + 1) * width], shape[1:]) for i in range(shape[0])]


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
