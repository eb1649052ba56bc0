"""Probes: fixed token sequences from a seed of their own, the same at every snapshot, run and world size.

Drawing them needs no torch, so that a launcher can tell that a corpus does not allow them before anything is started.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from induction_bump.data.corpus import Corpus
from induction_bump.measures.losses import InductionRule, induction_rule
from induction_bump.measures.options import CopyingProbeOptions, MeasureOptions, RepeatsProbeOptions

if TYPE_CHECKING:
    from induction_bump.measures.heads import Lookup

Tokens = npt.NDArray[np.int64]

SHORTEST_BLOCK = 8
BLOCK_LENGTHS = 4
"""Different block lengths in a probe, so that a head with a fixed look-back cannot score 1."""
FEWEST_TOKENS = 4
"""Of the copying probe: with fewer, chance, 4/n − 1, would lie above 0."""


class ProbeError(ValueError):
    """A probe cannot be made from this corpus and context."""


@dataclass(frozen=True)
class HeldOutProbe:
    """Held-out windows."""

    tokens: Tokens
    """N × (T + 1)."""
    documents: Tokens
    """N: the document of each window, by which standard errors are clustered."""
    position: Tokens
    """N: the one position (1-based) of each window whose loss is kept token by token."""

    @cached_property
    def lookup(self) -> "Lookup":
        """Where the head scores look."""
        from induction_bump.measures.heads import text_lookup

        return text_lookup(len(self.tokens), self.tokens.shape[1] - 1)

    @cached_property
    def rule(self) -> InductionRule:
        """Where the induction rule is right and wrong."""
        return induction_rule(self.tokens)

    @cached_property
    def hash(self) -> str:
        """sha256 of tokens, documents and positions."""
        return _hash(self.tokens, self.documents, self.position)


@dataclass(frozen=True)
class RepeatsProbe:
    """BOS, a block of distinct random tokens, and the block again; padded with BOS up to the longest sequence's length.

    Causality keeps the padding out of what comes before it, not out of means over sequences: see `lengths`.
    """

    tokens: Tokens
    """N × L."""
    shuffled: Tokens
    """N × L: the second copy has the block's tokens in another order, `without_successors`: the first keeps its place,
    so that the tokens that are scored are the same."""
    blocks: Tokens
    """N: the length of each sequence's block."""
    repeats: int
    """Copies of the block in each sequence."""
    queried: npt.NDArray[np.bool_]
    """N × L: tokens that may be queries."""
    pool: int
    """How many tokens blocks are drawn from."""

    @property
    def lengths(self) -> Tokens:
        """N: how many tokens each sequence has, BOS among them; what follows is padding."""
        return 1 + self.repeats * self.blocks

    @cached_property
    def lookup(self) -> "Lookup":
        """Where the head scores look."""
        import torch

        from induction_bump.measures.heads import repeat_lookup

        return repeat_lookup(torch.from_numpy(self.blocks), self.repeats, torch.from_numpy(self.queried))

    @cached_property
    def hash(self) -> str:
        """sha256 of both sets of sequences."""
        return _hash(self.tokens, self.shuffled, self.blocks, self.queried.astype(np.int64))


@dataclass(frozen=True)
class CopyingProbe:
    """BOS, then n distinct tokens: no token comes twice."""

    tokens: Tokens
    """N × (1 + n)."""

    @cached_property
    def hash(self) -> str:
        """sha256 of the sequences."""
        return _hash(self.tokens)


@dataclass(frozen=True)
class Probes:
    """The fixed sequences that a run is measured on."""

    held_out: HeldOutProbe
    repeats: RepeatsProbe
    copying: CopyingProbe

    @classmethod
    def draw(cls, corpus: Corpus, context: int, options: MeasureOptions) -> "Probes":
        """Draw each from its own seed. Raises ValueError where the corpus does not allow it."""
        return cls(
            held_out_probe(corpus, context, options),
            repeats_probe(corpus, context, options.repeats),
            copying_probe(corpus, context, options.copying, options.repeats.quantiles),
        )

    @property
    def hashes(self) -> dict[str, str]:
        """sha256 of each probe."""
        return {"held_out": self.held_out.hash, "repeats": self.repeats.hash, "copying": self.copying.hash}

    def describe(self) -> dict[str, dict[str, int | float | str]]:
        """Sizes that readers of the records need."""
        held_out, repeats = self.held_out, self.repeats
        return {
            "held_out": {
                "examples": len(held_out.tokens),
                "documents": len(np.unique(held_out.documents)),
                "context": held_out.tokens.shape[1] - 1,
            },
            "repeats": {
                "sequences": len(repeats.tokens),
                "pool": repeats.pool,
                "block": int(repeats.blocks.max()),
                "shortest_block": int(repeats.blocks.min()),
            },
            "copying": {"sequences": len(self.copying.tokens), "tokens": self.copying.tokens.shape[1] - 1},
        }


def held_out_probe(corpus: Corpus, context: int, options: MeasureOptions) -> HeldOutProbe:
    """Draw the probe of held-out windows. Raises ValueError where the corpus holds too few."""
    chosen = options.held_out
    held_out = corpus.held_out(chosen.examples, context, chosen.seed)
    if len(np.unique(held_out.document)) < 2:
        raise ProbeError(
            f"measures.held_out: all {chosen.examples} windows lie in one held-out document, which leaves no "
            "standard error; raise data.held_out_share or give more documents"
        )
    positions = np.random.default_rng([chosen.seed, 1]).integers(1, context + 1, len(held_out.tokens))
    return HeldOutProbe(held_out.tokens, held_out.document.astype(np.int64), positions)


def repeats_probe(corpus: Corpus, context: int, options: RepeatsProbeOptions, seed: int | None = None) -> RepeatsProbe:
    """Draw the probe of repeated random tokens, from another seed than its own where one is given.

    Raises ProbeError where the context or the number of eligible tokens leaves no block of at least 8.
    """
    seed = options.seed if seed is None else seed
    triggers = corpus.probe_triggers(options.sequences, seed)  # N × triggers, or None
    pool = eligible_tokens(corpus, options.quantiles)
    longest = min(options.block, (context - 1) // options.repeats, len(pool))
    if longest < SHORTEST_BLOCK:
        raise ProbeError(
            f"measures.repeats: a context of {context}, {options.repeats} repeats and {len(pool)} eligible tokens "
            f"leave blocks of {longest} tokens, and at least {SHORTEST_BLOCK} are needed"
        )
    rng = np.random.default_rng(seed)
    lengths = np.unique(np.linspace(max(SHORTEST_BLOCK, longest / 2), longest, BLOCK_LENGTHS).round().astype(np.int64))
    blocks = lengths[np.arange(options.sequences) % len(lengths)]
    tokens = np.full((options.sequences, 1 + longest * options.repeats), corpus.bos, np.int64)
    shuffled = tokens.copy()
    for n, size in enumerate(blocks):
        block = rng.permutation(pool)[:size]
        if triggers is not None and not np.isin(block, triggers[n]).any():
            block[rng.integers(size)] = rng.choice(triggers[n])  # every sequence needs a token to query
        tokens[n, 1 : 1 + size * options.repeats] = np.tile(block, options.repeats)
        shuffled[n] = tokens[n]
        shuffled[n, 1 + size : 1 + 2 * size] = without_successors(block, rng)
    queried = tokens != corpus.bos
    if triggers is not None:
        queried = (tokens[:, :, None] == triggers[:, None]).any(-1)
    return RepeatsProbe(tokens, shuffled, blocks, options.repeats, queried, len(pool))


def without_successors(block: Tokens, rng: np.random.Generator) -> Tokens:
    """The block in another order, its first token in place, in which no token follows the one that it follows there.

    All such orders are equally likely: random ones are drawn until one has no successor left, e tries in the mean.
    Only the first try comes from `rng` itself, so that what is drawn next does not depend on their number.
    """
    order, [further] = np.arange(len(block)), rng.spawn(1)
    order[1:] = rng.permutation(order[1:])
    while (np.diff(order) == 1).any():
        order[1:] = further.permutation(order[1:])
    return block[order]


def copying_probe(
    corpus: Corpus, context: int, options: CopyingProbeOptions, quantiles: tuple[float, float]
) -> CopyingProbe:
    """Draw the probe; n is `options.tokens`, or what context (BOS takes one position) and eligible tokens allow.

    quantiles: of training frequency, between which tokens are eligible.
    Raises ProbeError where fewer than 4 tokens are left.
    """
    pool = eligible_tokens(corpus, quantiles)
    n = min(options.tokens, context - 1, len(pool))
    if n < FEWEST_TOKENS:
        raise ProbeError(
            f"measures.copying: a context of {context} and {len(pool)} eligible tokens leave {max(n, 0)} tokens after "
            f"BOS, and at least {FEWEST_TOKENS} are needed"
        )
    rng = np.random.default_rng(options.seed)
    drawn = [rng.choice(pool, n, replace=False) for _ in range(options.sequences)]
    return CopyingProbe(np.insert(np.stack(drawn), 0, corpus.bos, axis=1).astype(np.int64))


def eligible_tokens(corpus: Corpus, quantiles: tuple[float, float]) -> Tokens:
    """Tokens that are not special and whose training frequency lies between two quantiles of those that occur."""
    ordinary = np.setdiff1d(np.flatnonzero(corpus.frequencies > 0), corpus.special_tokens)
    frequencies = corpus.frequencies[ordinary]
    low, high = np.quantile(frequencies, quantiles)
    return ordinary[(frequencies >= low) & (frequencies <= high)]


def _hash(*arrays: npt.NDArray[np.integer]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array, "<i8").tobytes())
    return digest.hexdigest()
