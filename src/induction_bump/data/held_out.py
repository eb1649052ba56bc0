"""Held-out windows: what every probe on the corpus's own law or text reads."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class HeldOut:
    """Windows that training never sees, with what they are clustered by."""

    tokens: Int[np.ndarray, "N T+1"]
    """t_0 … t_T, int64; t_0 is BOS where windows start with it, and there is no other BOS."""
    document: Int[np.ndarray, " N"]
    """What windows are clustered by, int32: their document; the section of one where sections of fewer than 20
    documents are held out; on synthetic corpora each window is its own."""
    triggers: Int[np.ndarray, "N K"] | None = None
    """Trigger tokens of each window, on the `triggers` corpus only."""
