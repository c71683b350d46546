"""Sign election, the part that TIES and DARE-TIES share (Yadav et al. 2023, section 3)."""

import numpy as np

from stages.lib.merging.task_vectors import Float32


def agreeing_mean(deltas: list[Float32], weights: list[float]) -> Float32:
    """Per entry: the weighted mean of the task vectors whose sign is the elected one.

    Elected is the sign of Σ wᵢ δᵢ, plus where it is zero. Divided by the weights of those that agree; where
    none does, the entry is 0.
    """
    elected = np.zeros_like(deltas[0])
    for delta, weight in zip(deltas, weights, strict=True):
        elected += np.float32(weight) * delta
    positive = elected >= 0
    total = np.zeros_like(elected)
    divisor = np.zeros_like(elected)
    for delta, weight in zip(deltas, weights, strict=True):
        agrees = np.where(positive, delta > 0, delta < 0)
        total += np.where(agrees, np.float32(weight) * delta, np.float32(0))
        divisor += np.where(agrees, np.float32(weight), np.float32(0))
    divisor[divisor == 0] = 1
    mean: Float32 = total / divisor
    return mean
