"""Numbers of tokens as people read them."""

import math

_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def format_tokens(tokens: float, digits: int = 2) -> str:
    """Tokens to at least so many significant digits, with a unit: 819k, 5.2M."""
    for size, unit in _UNITS:
        if tokens >= size * (1 - 0.5 * 10.0**-digits):
            scaled = tokens / size
            decimals = max(0, digits - len(str(int(scaled))))
            return f"{scaled:.{decimals}f}{unit}"
    return f"{tokens:.0f}"


def format_ends(low: float, high: float) -> tuple[str, str]:
    """Both ends of an interval, to a quarter of its width or finer."""
    leading = math.floor(math.log10(max(high, 1)))
    fine = math.floor(math.log10(max(high - low, 1) / 4))
    digits = max(2, leading - fine + 1)
    return format_tokens(low, digits), format_tokens(high, digits)


def format_interval(low: float, high: float) -> str:
    """An interval of tokens: 5.2M–5.7M, 5.24M–5.28M."""
    return "–".join(format_ends(low, high))


def format_median(median: float | None, low: float | None, high: float | None) -> str:
    """A median over seeds with its interval, or the bound that is all that is known: later than 5.2M."""
    if low is None or high is None:
        return "–"
    if median is None:
        return f"later than {format_tokens(low)}" if math.isinf(high) else f"earlier than {format_tokens(high)}"
    between = f"{format_tokens(low)} or later" if math.isinf(high) else format_interval(low, high)
    return f"{format_tokens(median, 3)} ({between})"


def format_variation(cv: float | None, low: float | None, high: float | None) -> str:
    """A coefficient of variation, or what it is at most where its interval begins at 0: 11 %, ≤ 3.0 %."""
    if high is None:
        return "–"
    return _percent(cv) if cv and low else f"≤ {_percent(high)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"
