"""TIES (Yadav et al. 2023, arXiv:2306.01708): trim, elect signs, average those that agree."""

import numpy as np

from stages.lib.merging.signs import agreeing_mean
from stages.lib.merging.task_vectors import Float32
from stages.lib.params import Ties


def trim(delta: Float32, density: float) -> Float32:
    """Keep the `int(density · n)` entries of largest magnitude, in one tensor; zero the others.

    At least one entry stays. Entries that tie with the smallest kept one are decided by their place.
    """
    kept = max(1, int(density * delta.size))
    if kept >= delta.size:
        return delta
    flat = delta.ravel()
    largest = np.argpartition(np.abs(flat), flat.size - kept)[flat.size - kept :]
    trimmed = np.zeros_like(flat)
    trimmed[largest] = flat[largest]
    return trimmed.reshape(delta.shape)


def merge(deltas: list[Float32], weights: list[float], recipe: Ties, name: str) -> Float32:
    """TIES of the task vectors, times `scale`."""
    trimmed = [trim(delta, recipe.density) for delta in deltas]
    return np.float32(recipe.scale) * agreeing_mean(trimmed, weights)
