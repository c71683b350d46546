"""Model breadcrumbs (Davari & Belilovsky 2023, arXiv:2312.06795): leave out outliers and small entries."""

from typing import Annotated, Literal

from pydantic import Field

from safety_tax.core.arrays import Float32
from safety_tax.merging.recipe import Density, DonorRecipe, Scale
from safety_tax.merging.thinned import Thinned, middle, thinned_sum
from safety_tax.merging.updates import Target, Update


class Breadcrumbs(DonorRecipe):
    """W0 + scale · Σ wᵢ mᵢ δᵢ: mᵢ leaves out outliers and small entries (Davari & Belilovsky 2023, arXiv:2312.06795).

    In each tensor the share `gamma` of largest magnitude goes, and of the smallest as many as leave `density`.
    """

    method: Literal["breadcrumbs"]
    scale: Scale = 1.0
    density: Density = 1.0
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.01

    def merge(self, updates: list[Update], target: Target) -> Float32:
        """Weighted sum of what stays of the task vectors, times `scale`."""
        kept = [Thinned(u.weight, u.delta, middle(u.delta, self.density, self.gamma)) for u in updates]
        return thinned_sum(kept, self.scale)
