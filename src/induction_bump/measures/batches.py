"""How many sequences go through a model at once."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from induction_bump.model.transformer import Transformer

TOKENS_AT_ONCE = 8192
"""Tokens of one batch; enough to keep two cores or a GPU busy."""
PATTERN_BYTES = 1 << 28
"""Attention patterns of all layers that are held at once, by measures that need them whole."""


def batches(model: Transformer, tokens: npt.NDArray[np.int64], *, patterns: bool = False) -> Iterator[Tensor]:
    """N × L tokens in pieces on the model's device; with `patterns` no more than their patterns may take memory."""
    length = tokens.shape[1]
    size = max(1, TOKENS_AT_ONCE // length)
    if patterns:
        options = model.options
        of_one = 4 * options.n_heads * length**2 * max(1, options.n_attention)
        size = max(1, min(size, PATTERN_BYTES // of_one))
    for start in range(0, len(tokens), size):
        yield torch.from_numpy(tokens[start : start + size]).to(model.W_E.device)
