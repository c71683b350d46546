"""Task arithmetic (Ilharco et al. 2022, arXiv:2212.04089): scale · Σ wᵢ δᵢ."""

import numpy as np

from stages.lib.merging.task_vectors import Float32
from stages.lib.params import TaskArithmetic


def merge(deltas: list[Float32], weights: list[float], recipe: TaskArithmetic, name: str) -> Float32:
    """Weighted sum of the task vectors, times `scale`."""
    total = np.zeros_like(deltas[0])
    for delta, weight in zip(deltas, weights, strict=True):
        total += np.float32(weight) * delta
    return np.float32(recipe.scale) * total
