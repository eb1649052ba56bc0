"""Composition of heads, and what it is of random factors. Its values are those of whole matrices: test_circuits."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from induction_bump.measures.composition import KINDS, composition, composition_baseline
from induction_bump.measures.folding import DegenerateError, fold
from induction_bump.model.options import ModelOptions
from induction_bump.model.transformer import Transformer
from tests.measures.random_models import T, V, pairs, random_model
from tests.model.variants import options


@pytest.mark.parametrize(("norm", "dimensions"), [("layernorm", 63), ("rmsnorm", 64), ("none", 64)])
def test_composition_of_random_weights_is_nothing_beyond_its_baseline(norm: Any, dimensions: int) -> None:
    """3,600 pairs of each kind. A LayerNorm leaves D − 1 dimensions to all factors, which is 0.8 % of the baseline."""
    options = ModelOptions(sublayers="ss", d_model=64, n_heads=60, d_head=16, norm=norm, positions="none")
    c = composition(fold(Transformer(options, V, T, seed=1)))
    for kind in KINDS:
        of_kind = c.kind == kind
        ratios = c.value[of_kind] + c.baseline[of_kind]
        # pairs share heads, so that a mean over 60² of them varies by 0.05 % (v) to 0.15 % (q)
        assert c.value[of_kind].mean() == pytest.approx(0, abs=0.004 * c.baseline[0])
        assert np.square(ratios).mean() == pytest.approx(1 / dimensions, rel=0.007)
        assert ratios.std() < 0.15 * c.baseline[0]


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm", "none"])
def test_factors_lie_in_as_many_dimensions_as_is_said(norm: Any) -> None:
    """Gains and biases included: of the rank of all heads' factors together, on either side of either product."""
    folded = fold(random_model(options(sublayers="ss", norm=norm, biases=True)))
    for side in (folded.W_Q, folded.W_K, folded.W_V, folded.W_O.mT):
        together = side.transpose(0, 1).flatten(1)  # (D, N·K)
        assert int(torch.linalg.matrix_rank(together)) == folded.dimensions


def test_each_row_is_a_pair_of_heads_a_kind_and_the_baseline_that_was_taken_away() -> None:
    folded = fold(random_model(options(sublayers="ssfs")))
    c = composition(folded, ("v", "q"))
    columns = (c.layer_in, c.head_in, c.layer_out, c.head_out, c.kind, c.value, c.baseline)
    assert {len(column) for column in columns} == {2 * 3 * 9}
    assert len(set(zip(*columns[:5], strict=True))) == 54
    assert set(c.kind) == {"q", "v"}
    assert (c.layer_in < c.layer_out).all()
    assert set(c.baseline) == {composition_baseline(11, 6)}
    assert pairs(folded, ("v", "q")).items() <= pairs(folded).items()


@pytest.mark.parametrize("sublayers", ["", "f", "s", "fsf"])
def test_without_pairs_there_are_no_rows(sublayers: str) -> None:
    c = composition(fold(random_model(options(sublayers=sublayers))))
    assert len(c.layer_in) == len(c.kind) == len(c.value) == len(c.baseline) == 0


class TestBaseline:
    """The mean composition of Gaussian factors."""

    @pytest.mark.parametrize(("dimensions", "d_head"), [(12, 6), (20, 1), (16, 16), (6, 8)])
    def test_it_is_the_mean_of_whole_random_matrices(self, dimensions: int, d_head: int) -> None:
        rng = np.random.default_rng(5)
        ratios = []
        for _ in range(4000):
            A, B = (rng.normal(size=(dimensions, d_head)) @ rng.normal(size=(d_head, dimensions)) for _ in range(2))
            ratios.append(np.linalg.norm(A @ B) / (np.linalg.norm(A) * np.linalg.norm(B)))
        stderr = np.std(ratios) / math.sqrt(4000)
        baseline = composition_baseline(dimensions, d_head)
        assert baseline == pytest.approx(np.mean(ratios), abs=4 * stderr + 0.01 * baseline)
        squares = np.square(ratios)
        assert squares.mean() == pytest.approx(1 / dimensions, abs=4 * squares.std() / math.sqrt(4000))
        assert baseline < 1 / math.sqrt(dimensions)

    def test_one_dimension_is_the_mean_cosine(self) -> None:
        """For K = 1 the ratio is |cos| of a random angle, of mean Γ(D/2) / (√π Γ((D+1)/2))."""
        D = 20
        expected = math.gamma(D / 2) / (math.sqrt(math.pi) * math.gamma((D + 1) / 2))
        assert composition_baseline(D, 1) == pytest.approx(expected, rel=0.01)


class TestDegenerateInput:
    """0 divided by 0 is an error that names the head."""

    @pytest.mark.parametrize(
        ("sublayer", "weight", "message"),
        [
            (0, "W_O", "W_OV of L0H1 is 0"),
            (0, "W_V", "W_OV of L0H1 is 0"),
            (1, "W_Q", "W_QK of L1H1 is 0"),
            (1, "W_O", "W_OV of L1H1 is 0"),
        ],
    )
    def test_composition_of_a_head_that_is_nothing(self, sublayer: int, weight: str, message: str) -> None:
        model = random_model(options(sublayers="ss"))
        with torch.no_grad():
            parameter = getattr(model.sublayers[sublayer], weight)
            (parameter if weight == "W_O" else parameter.transpose(0, 1))[1] = 0
        with pytest.raises(DegenerateError, match=message):
            composition(fold(model))

    def test_a_residual_stream_that_a_norm_leaves_nothing_of_has_no_pairs(self) -> None:
        model = Transformer(ModelOptions(sublayers="ss", d_model=1, n_heads=1, d_head=2, norm="layernorm"), V, T)
        told: list[DegenerateError] = []
        assert len(composition(fold(model), undefined=told.append).value) == 0
        assert told

    def test_composition_does_not_ask_for_what_it_does_not_need(self) -> None:
        model = random_model(options(sublayers="ss"))
        with torch.no_grad():
            model.sublayers[0].W_Q.zero_()
            model.sublayers[1].W_O.zero_()
        assert len(composition(fold(model), ("q", "k")).value) == 18
