"""Which heads are ablated together, and which they are compared with."""

import itertools

from induction_bump.measures.groups import choose, matched_sets
from induction_bump.measures.options import MeasureOptions, RepeatsProbeOptions
from induction_bump.model.options import Clamp
from induction_bump.model.transformer import Transformer
from tests.measures.corpus import SmallCorpus
from tests.measures.wired import induction_model
from tests.model.variants import options

OPTIONS = MeasureOptions(repeats=RepeatsProbeOptions(sequences=8, quantiles=(0.0, 1.0)))


def model(n_heads: int, *clamps: Clamp) -> Transformer:
    return Transformer(options(sublayers="ss", n_heads=n_heads, clamps=clamps), 32, 40)


def test_the_heads_that_match_prefixes_are_chosen() -> None:
    assert choose(induction_model(32, 40), SmallCorpus(context=40), 40, OPTIONS, 0.5) == {(1, 0)}
    assert choose(induction_model(32, 40), SmallCorpus(context=40), 40, OPTIONS, 1.1) == frozenset()


def test_all_sets_of_as_many_heads_in_each_layer_where_they_are_few() -> None:
    found = matched_sets(model(3), frozenset({(0, 0), (1, 1)}), draws=20, seed=0)
    expected = [frozenset({a, b}) for a, b in itertools.product([(0, 1), (0, 2)], [(1, 0), (1, 2)])]
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected))


def test_different_random_ones_where_they_are_many() -> None:
    group = frozenset({(1, 0), (1, 1)})
    found = matched_sets(model(12), group, draws=20, seed=0)
    assert len(set(found)) == 20
    assert all(len(heads) == 2 and {layer for layer, _ in heads} == {1} and not heads & group for heads in found)
    assert found == matched_sets(model(12), group, draws=20, seed=0)
    assert found != matched_sets(model(12), group, draws=20, seed=1)


def test_none_where_too_few_heads_are_left() -> None:
    assert matched_sets(model(3), frozenset({(1, 0), (1, 1)}), draws=20, seed=0) == []
    assert matched_sets(model(3), frozenset(), draws=20, seed=0) == []


def test_heads_with_a_clamp_are_in_no_set() -> None:
    clamp = Clamp(layer=1, head=2, kind="previous")
    assert matched_sets(model(3, clamp), frozenset({(1, 0)}), draws=20, seed=0) == [frozenset({(1, 1)})]
