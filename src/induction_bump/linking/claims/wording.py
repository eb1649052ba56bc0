"""How findings write numbers: −0.15, 5 %, and intervals only where there are any."""

import numpy as np


def number(value: float, form: str) -> str:
    """A number in the format `form`; a dash where there is none."""
    if np.isnan(value):
        return "–"
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:{form}}".replace("-", "−").replace("%", " %")


def ends(low: float, high: float, form: str) -> str:
    """The interval of a mean as `mean_interval` gives it, or its exponential; of one run there is none."""
    return "(one run)" if np.isinf(high) else f"[{number(low, form)}, {number(high, form)}]"
