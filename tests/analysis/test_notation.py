"""The axis of training tokens, as it is drawn."""

import sys
from itertools import pairwise
from pathlib import Path

import matplotlib
import pytest

matplotlib.use("Agg")
from matplotlib import pyplot as plt

sys.path.insert(0, str(Path(__file__).parents[2] / "analysis"))
import notation


@pytest.mark.parametrize("scale", ["log", "linear"])
@pytest.mark.parametrize(("low", "high"), [(8192, 16e6), (2e5, 1.6e6), (3e5, 7e5), (8192, 2e9), (1.1e6, 1.9e6)])
def test_tokens_are_written_one_way_and_no_label_touches_another(low: float, high: float, scale: str):
    figure, axes = plt.subplots(figsize=(6.4, 2.2))
    axes.plot([low, high], [0, 1])
    notation.token_axis(axes, scale)
    axes.set_xlim(low, high)
    figure.canvas.draw()
    ticks = [tick for which in (axes.xaxis.get_major_ticks(), axes.xaxis.get_minor_ticks()) for tick in which]
    labels = [tick.label1 for tick in ticks if low <= tick.get_loc() <= high and tick.label1.get_text()]
    boxes = sorted((label.get_window_extent().x0, label.get_window_extent().x1) for label in labels)
    plt.close(figure)
    assert len(labels) >= 2
    assert all(label.get_text().rstrip("kMB").replace(".", "").isdigit() for label in labels)
    assert all(end < start for (_, end), (start, _) in pairwise(boxes))
