"""TIES (Yadav et al. 2023, arXiv:2306.01708): trim, elect signs, average those that agree."""

import numpy as np
from numpy.typing import NDArray

from safety_tax.merging.ranks import ranked
from safety_tax.merging.recipes import Ties
from safety_tax.merging.thinned import Thinned, elected_mean
from safety_tax.merging.updates import Float32, Target, Update


def largest(delta: Float32, density: float) -> NDArray[np.bool_] | None:
    """Which entries are the `int(density · n)` of largest magnitude in the tensor, flat; None for all.

    At least one entry stays. Of those that tie with the smallest kept one, the last in the tensor stay.
    """
    kept = max(1, int(density * delta.size))
    if kept >= delta.size:
        return None
    return ranked(delta, delta.size - kept, delta.size)


def merge(updates: list[Update], recipe: Ties, target: Target) -> Float32:
    """TIES of the task vectors, times `scale`."""
    trimmed = [Thinned(update.weight, update.delta, largest(update.delta, recipe.density)) for update in updates]
    return elected_mean(trimmed, recipe.scale, recipe.normalize)
