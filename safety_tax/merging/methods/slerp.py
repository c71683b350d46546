"""Spherical interpolation (Shoemake 1985) between two task vectors, each tensor taken as one vector."""

import numpy as np

from safety_tax.merging.recipes import Slerp
from safety_tax.merging.updates import Float32, Target, Update, blocks, weighted_sum

PARALLEL = 0.9995  # cosine, as in mergekit, above which the path is taken as straight
SUMMED = 1 << 20  # elements that are summed at once; another number would change the last digit of an angle


def cosine(one: Float32, other: Float32) -> float:
    """Cosine of the angle between two tensors, summed in float64; 0 where one of them is all zeros."""
    first, second = one.reshape(-1), other.reshape(-1)
    sums = np.zeros(3)
    for block in blocks(first.size, SUMMED):
        a, b = first[block].astype(np.float64), second[block].astype(np.float64)
        sums += (a @ b, a @ a, b @ b)
    length = float(np.sqrt(sums[1] * sums[2]))
    return float(sums[0]) / length if length else 0.0


def merge(updates: list[Update], recipe: Slerp, target: Target) -> Float32:
    """sin((1−t)θ)/sin θ · w₁ δ₁ + sin(tθ)/sin θ · w₂ δ₂; straight where a donor leaves the tensor alone."""
    shares = [1 - recipe.t, recipe.t]
    if len(updates) == 2:
        angle = cosine(updates[0].delta, updates[1].delta)
        if abs(angle) <= PARALLEL and all(update.delta.any() for update in updates):
            theta = np.arccos(angle)
            shares = [float(np.sin(share * theta) / np.sin(theta)) for share in shares]
    return weighted_sum([update._replace(weight=update.weight * shares[update.place]) for update in updates])
