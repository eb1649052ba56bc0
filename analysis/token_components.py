"""Principal components of the token-loss vectors over training (Olsson et al. 2022)."""

import numpy as np
from measured_run import MissingError


def principal_components(losses: np.ndarray, number: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Places of S token-loss vectors along their leading principal components, in nats, and the shares of variance.

    `losses` (S, N), a row a snapshot. Returns (S, number) and (number,); components beyond the rank are 0.
    Raises MissingError for fewer than two snapshots.
    """
    if len(losses) < 2:
        raise MissingError("components of losses need two snapshots")
    centred = losses - losses.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    there = min(number, len(sizes))
    places, shares = np.zeros((len(losses), number)), np.zeros(number)
    places[:, :there] = (left * sizes)[:, :there]
    shares[:there] = sizes[:there] ** 2 / max((sizes**2).sum(), np.finfo(float).tiny)
    return places, shares
