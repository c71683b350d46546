"""Model breadcrumbs (Davari & Belilovsky 2023, arXiv:2312.06795): leave out outliers and small entries."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from safety_tax.core.arrays import Float32
from safety_tax.merging.ranks import ranked
from safety_tax.merging.recipe import Density, Recipe, Scale
from safety_tax.merging.thinned import Thinned, thinned_sum
from safety_tax.merging.updates import Target, Update


def middle(delta: Float32, density: float, gamma: float) -> NDArray[np.bool_]:
    """Which entries stay, flat: neither in the top `gamma` share by magnitude nor below the `density` share under it.

    Where both cannot be had, fewer outliers go, as in mergekit: `density` is kept.
    """
    kept = max(1, int(density * delta.size))
    top = min(int(gamma * delta.size), delta.size - kept)
    return ranked(delta, delta.size - top - kept, delta.size - top)


class Breadcrumbs(Recipe):
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
