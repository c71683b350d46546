"""TIES (Yadav et al. 2023, arXiv:2306.01708): trim, elect signs, average those that agree."""

from typing import Literal

from safety_tax.core.arrays import Float32
from safety_tax.merging.recipe import Density, DonorRecipe, Scale
from safety_tax.merging.thinned import Thinned, elected_mean, largest
from safety_tax.merging.updates import Target, Update


class Ties(DonorRecipe):
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
