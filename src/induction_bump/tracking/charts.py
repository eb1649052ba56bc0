"""The custom charts of a snapshot: loss by position, and a grid of the heads' scores.

Loss by position goes as a histogram whose bins are positions: W&B draws a series of histograms as a heat map over
training, and numbers need no upload. A grid of heads is a small picture: layers down, heads across, a score of 0 dark
and 1 bright.
"""

from typing import Any

import numpy as np

from induction_bump.tracking.rows import Drawing

_MOST_BINS = 256
"""W&B refuses more than 512, and a heat map shows no more."""
_CELL = 24
"""Pixels a head is wide and high."""
_DARK_TO_BRIGHT = np.array(
    [(20, 16, 51), (76, 33, 113), (150, 52, 113), (221, 92, 78), (250, 163, 66), (252, 246, 191)]
)
"""Colours of the scores 0, 0.2, … 1, in RGB."""


def charts(drawing: Drawing) -> dict[str, Any]:
    """W&B key → W&B object."""
    import wandb

    made: dict[str, Any] = {}
    if drawing.losses:
        made["loss_by_position"] = wandb.Histogram(np_histogram=position_bins(drawing.losses))
    if drawing.heads:
        made["heads/grid"] = [
            wandb.Image(grid_picture(grid), caption=measure) for measure, grid in drawing.heads.items()
        ]
    return made


def position_bins(losses: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Mean loss in nats within equal stretches of positions, and the stretches' edges (one more than there are means).

    `losses[0]` is position 1, whose bin is 0.5 to 1.5.
    """
    stretches = np.array_split(np.asarray(losses), min(len(losses), _MOST_BINS))
    edges = np.cumsum([0, *map(len, stretches)]) + 0.5
    return np.array([s.mean() for s in stretches]), edges


def grid_picture(grid: list[list[float]]) -> np.ndarray:
    """Scores [layer][head] in [0, 1] as an RGB picture, uint8, (layers · cell) × (heads · cell) × 3.

    Layers may differ in their number of heads; what is missing is white.
    """
    widest = max(len(layer) for layer in grid)
    picture = np.full((len(grid), widest, 3), 255.0)
    places = np.linspace(0, 1, len(_DARK_TO_BRIGHT))
    for row, layer in zip(picture, grid, strict=True):
        for channel in range(3):
            row[: len(layer), channel] = np.interp(layer, places, _DARK_TO_BRIGHT[:, channel])
    return picture.round().astype(np.uint8).repeat(_CELL, axis=0).repeat(_CELL, axis=1)
