"""Task arithmetic (Ilharco et al. 2022, arXiv:2212.04089): scale · Σ wᵢ δᵢ."""

from typing import Literal

from safety_tax.core.arrays import Float32
from safety_tax.merging.recipe import DonorRecipe, Scale
from safety_tax.merging.updates import Target, Update, weighted_sum


class TaskArithmetic(DonorRecipe):
    """W0 + scale · Σ wᵢ δᵢ (Ilharco et al. 2022, arXiv:2212.04089)."""

    method: Literal["task_arithmetic"]
    scale: Scale = 1.0

    def merge(self, updates: list[Update], target: Target) -> Float32:
        """Weighted sum of the task vectors, times `scale`."""
        return weighted_sum(updates, self.scale)
