"""Where the bump is to be expected before anything is trained: the law of Aoyama et al. 2025 (arXiv 2511.16893).

    tokens to the bump = 10^5.7 · √(sequences a batch · context)

They trained on natural text. Synthetic corpora, which are simpler to copy from, have the bump at a tenth of that.
"""

from math import ceil, floor, log10

_CONSTANT = 10**5.7
"""Tokens where batch · context is 1."""
_PAST = 1.5
"""How far past the bump a training should go for its end to be seen too."""


def expected_tokens(batch_sequences: float, context: float) -> float:
    """Tokens to the bump on natural text."""
    return _CONSTANT * (batch_sequences * context) ** 0.5


def length_past(tokens: float) -> str:
    """A training's length, in tokens to two digits, that sees the whole of a bump at `tokens`: `35Mtok`."""
    digit = 10 ** (floor(log10(_PAST * tokens)) - 1)
    millions = ceil(_PAST * tokens / digit) * digit / 1e6
    return f"{millions:g}Mtok"
