"""Angles between tensors, each taken as one vector."""

import numpy as np

from safety_tax.core.arrays import blocks
from safety_tax.core.tensor_files import Tensor

PARALLEL = 0.9995  # cosine, as in mergekit, above which the path is taken as straight
SUMMED = 1 << 20  # elements that are summed at once; another number would change the last digit of an angle


def cosine(one: Tensor, other: Tensor) -> float:
    """Cosine of the angle between two tensors, summed in float64; 0 where one of them is all zeros."""
    first, second = one.reshape(-1), other.reshape(-1)
    sums = np.zeros(3)
    for block in blocks(first.size, SUMMED):
        a, b = first[block].astype(np.float64), second[block].astype(np.float64)
        sums += (a @ b, a @ a, b @ b)
    length = float(np.sqrt(sums[1] * sums[2]))
    return float(sums[0]) / length if length else 0.0
