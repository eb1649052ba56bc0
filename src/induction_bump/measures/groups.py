"""Which heads are ablated together, and which sets of others they are compared with.

Defined in docs/measures/definitions.md#group_ablation.
"""

import itertools
import math

import numpy as np

from induction_bump.data.corpus import Corpus
from induction_bump.measures.ablation import Head
from induction_bump.measures.options import MeasureOptions
from induction_bump.measures.probes import repeats_probe
from induction_bump.measures.reading import read
from induction_bump.model.clamps import free_heads
from induction_bump.model.transformer import Transformer


def choose(
    model: Transformer, corpus: Corpus, context: int, options: MeasureOptions, threshold: float
) -> frozenset[Head]:
    """The induction heads: without a clamp, and with prefix matching of at least `threshold`.

    They are chosen on repeats of a seed of their own, so that the noise of the probe on which they are ablated has no
    part in the choice.
    """
    probe = repeats_probe(corpus, context, options.repeats, seed=options.causal.group_seed)
    scores = read(model, probe.tokens, probe.lookup, losses=False).scores
    mean = scores["prefix_matching"].mean(0)
    return frozenset(head for head in free_heads(model.options) if mean[head] >= threshold)


def matched_sets(model: Transformer, group: frozenset[Head], draws: int, seed: int) -> list[frozenset[Head]]:
    """Sets of other heads with as many heads in each layer: all of them, or `draws` of them at random.

    Heads with a clamp are in none. An empty list where a layer has too few heads left.
    """
    free = free_heads(model.options)
    choices: list[tuple[list[Head], int]] = []
    for layer in sorted({layer for layer, _ in group}):
        needed = sum(at == layer for at, _ in group)
        choices.append(([head for head in free if head[0] == layer and head not in group], needed))
    if not choices or any(len(others) < needed for others, needed in choices):
        return []
    if math.prod(math.comb(len(others), needed) for others, needed in choices) <= draws:
        by_layer = [list(itertools.combinations(others, needed)) for others, needed in choices]
        return [frozenset(itertools.chain(*parts)) for parts in itertools.product(*by_layer)]
    rng = np.random.default_rng(seed)
    drawn: dict[frozenset[Head], None] = {}
    while len(drawn) < draws:
        parts = ((others[i] for i in rng.choice(len(others), needed, replace=False)) for others, needed in choices)
        drawn.setdefault(frozenset(itertools.chain(*parts)))
    return list(drawn)
