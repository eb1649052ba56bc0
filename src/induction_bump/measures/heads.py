"""Head scores: pure functions of chosen entries of the attention patterns (docs/measures/definitions.md#attention).

Which entries a score reads is a `Lookup`; what it makes of them is a function of entries B × H × Q × M (Q queries,
M keys each). No score holds a pattern.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from induction_bump.measures.statistics import NotFiniteError

Entries = Float[Tensor, "B H Q M"]


@dataclass(frozen=True)
class Lookup:
    """Entries A[i, j] that are read, for each sequence of a probe."""

    keys: Int[Tensor, "N Q M"]
    """For the queries i = 0 … Q − 1 of each sequence, the positions j; −1 where there is none."""
    columns: Mapping[str, slice]
    """Which of the M keys belong to which score."""

    def rows(self, start: int, stop: int, device: torch.device) -> "Lookup":
        """The part for sequences start … stop − 1, on a device."""
        return Lookup(self.keys[start:stop].to(device), self.columns)


def repeat_lookup(blocks: Int[Tensor, " N"], repeats: int, queried: Bool[Tensor, "N L"]) -> Lookup:
    """Where head scores look on BOS, block, block, …: queries i in the second and later copies.

    For every earlier occurrence e of t_i, e = i − m · block: prefix matching reads j = e + 1, off-by-one reads
    e + 2, duplicate token reads e. `queried` narrows the queries (on `triggers`, to trigger tokens).
    Raises ValueError where no query is left.
    """
    i = torch.arange(queried.shape[1]).expand(queried.shape)
    n = blocks[:, None]
    valid = (i > n) & (i <= repeats * n) & queried
    shifts = torch.arange(1, repeats)  # m
    earlier = i[..., None] - shifts * n[..., None]  # (N, L, repeats − 1)
    earlier = torch.where((earlier >= 1) & valid[..., None], earlier, -3)
    keys = torch.cat([earlier + 1, earlier + 2, earlier], dim=-1).clamp(min=-1)
    if not valid.any(1).all():
        raise ValueError("a sequence of the repeat probe has no token to query")
    width = earlier.shape[-1]
    names = ("prefix_matching", "prefix_matching_off_by_one", "duplicate_token")
    return Lookup(keys, {name: slice(c * width, (c + 1) * width) for c, name in enumerate(names)})


def text_lookup(examples: int, length: int) -> Lookup:
    """Where head scores look on text: A[i, i − 1] and A[i, 0] for i = 1 … length − 1.

    A[1, 0] is both, but a head that attends to the previous token has i ≥ 2 to show it: i = 1 does not count for
    `previous_token`. Raises ValueError for fewer than three positions.
    """
    if length < 3:
        raise ValueError(f"previous-token scores need at least 3 positions, not {length}")
    i = torch.arange(length)
    previous, first = torch.where(i >= 2, i - 1, -1), torch.where(i >= 1, 0, -1)
    keys = torch.stack([previous, first], dim=-1).expand(examples, -1, -1)
    return Lookup(keys, {"previous_token": slice(0, 1), "first_token": slice(1, 2)})


def head_scores(entries: Entries, lookup: Lookup) -> dict[str, Float[Tensor, "B H"]]:
    """Each sequence's score of every head: the mean over queries of the entries, summed over a query's keys.

    Where queries have several earlier occurrences, `prefix_matching_mean` is the mean over them as well.
    Queries without any key do not count. Raises NotFiniteError for entries that are no probabilities.
    """
    if not bool(torch.isfinite(entries).all()) or bool((entries > 1 + 1e-4).any()):
        raise NotFiniteError("attention patterns are not finite probabilities")
    scores = {}
    for name, columns in lookup.columns.items():
        there = lookup.keys[..., columns] >= 0  # (B, Q, M)
        counted = there.any(-1)[:, None].to(entries.dtype)  # (B, 1, Q)
        summed = entries[..., columns].sum(-1)  # (B, H, Q); entries without a key are 0
        scores[name] = (summed * counted).sum(-1) / counted.sum(-1)
        if name == "prefix_matching" and columns.stop - columns.start > 1:
            occurrences = there.sum(-1)[:, None].clamp(min=1)
            scores["prefix_matching_mean"] = (summed / occurrences * counted).sum(-1) / counted.sum(-1)
    return scores
