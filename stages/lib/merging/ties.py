"""TIES (Yadav et al. 2023, arXiv:2306.01708): trim, elect signs, average those that agree."""

import numpy as np
from numpy.typing import NDArray

from stages.lib.merging.thinned import Thinned, elected_mean
from stages.lib.merging.updates import Float32, Target, Update, blocks
from stages.lib.recipes import Ties


def largest(delta: Float32, density: float) -> NDArray[np.bool_] | None:
    """Which entries are the `int(density · n)` of largest magnitude in the tensor, flat; None for all.

    At least one entry stays. Entries that tie with the smallest kept one are decided by their place.
    """
    kept = max(1, int(density * delta.size))
    if kept >= delta.size:
        return None
    flat = delta.reshape(-1)
    size = np.abs(flat)
    cut = size.size - kept
    # The order statistic takes a quarter of the memory that places take; these decide only between equals.
    size.partition(cut)
    threshold = size[cut]
    mask = np.empty(flat.size, np.bool_)
    for block in blocks(flat.size):
        np.greater_equal(np.abs(flat[block]), threshold, out=mask[block])
    if np.count_nonzero(mask) != kept:
        np.abs(flat, out=size)
        mask[:] = False
        mask[np.argpartition(size, cut)[cut:]] = True
    return mask


def merge(updates: list[Update], recipe: Ties, target: Target) -> Float32:
    """TIES of the task vectors, times `scale`."""
    trimmed = [Thinned(update.weight, update.delta, largest(update.delta, recipe.density)) for update in updates]
    return elected_mean(trimmed, recipe.scale, recipe.normalize)
