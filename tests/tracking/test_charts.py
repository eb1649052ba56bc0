"""What the custom charts show."""

import numpy as np

from induction_bump.tracking.charts import charts, grid_picture, position_bins
from induction_bump.tracking.rows import Drawing


def test_a_bin_is_a_position() -> None:
    means, edges = position_bins([3.0, 2.0, 1.0])
    assert means.tolist() == [3.0, 2.0, 1.0]
    assert edges.tolist() == [0.5, 1.5, 2.5, 3.5]


def test_long_contexts_are_averaged_over_stretches_of_equal_length() -> None:
    means, edges = position_bins(list(range(2048)))
    assert len(means) == 256
    assert len(edges) == 257
    assert means[0] == np.mean(range(8))
    assert edges[:2].tolist() == [0.5, 8.5]
    assert edges[-1] == 2048.5


def test_a_grid_has_layers_down_and_heads_across_and_brightens_with_the_score() -> None:
    picture = grid_picture([[0.0, 0.25, 0.5], [0.75, 1.0, 0.1]])
    assert picture.shape == (2 * 24, 3 * 24, 3)
    assert picture.dtype == np.uint8
    brightness = picture.sum(axis=2)[12::24, 12::24]
    assert (np.argsort(brightness, axis=None) == [0, 5, 1, 2, 3, 4]).all()


def test_layers_may_differ_in_their_number_of_heads() -> None:
    picture = grid_picture([[0.0, 0.0], [0.0]])
    assert (picture[30, 30] == 255).all()
    assert not (picture[30, 10] == 255).all()


def test_nothing_is_drawn_of_what_was_not_recorded() -> None:
    assert charts(Drawing([], {})) == {}


def test_the_charts_are_named_and_captioned() -> None:
    made = charts(Drawing([2.0, 1.0], {"prefix_matching": [[0.5]], "first_token": [[0.5]]}))
    assert made["loss_by_position"].histogram == [2.0, 1.0]
    assert [image._caption for image in made["heads/grid"]] == ["prefix_matching", "first_token"]
