"""TIES (Yadav et al. 2023, arXiv:2306.01708): trim, elect signs, average those that agree."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from safety_tax.core.arrays import Float32
from safety_tax.merging.ranks import ranked
from safety_tax.merging.recipe import Density, Recipe, Scale
from safety_tax.merging.thinned import Thinned, elected_mean
from safety_tax.merging.updates import Target, Update


def largest(delta: Float32, density: float) -> NDArray[np.bool_] | None:
    """Which entries are the `int(density · n)` of largest magnitude in the tensor, flat; None for all.

    At least one entry stays. Of those that tie with the smallest kept one, the last in the tensor stay.
    """
    kept = max(1, int(density * delta.size))
    if kept >= delta.size:
        return None
    return ranked(delta, delta.size - kept, delta.size)


class Ties(Recipe):
    """W0 + scale · (mean of the trimmed δᵢ that agree with the elected sign) (Yadav et al. 2023, arXiv:2306.01708).

    Trimmed to the `density` share of largest magnitude in each tensor; `normalize: false` sums instead of averaging.
    """

    method: Literal["ties"]
    scale: Scale = 1.0
    density: Density = 1.0
    normalize: bool = True

    def merge(self, updates: list[Update], target: Target) -> Float32:
        """TIES of the task vectors, times `scale`."""
        trimmed = [Thinned(update.weight, update.delta, largest(update.delta, self.density)) for update in updates]
        return elected_mean(trimmed, self.scale, self.normalize)
