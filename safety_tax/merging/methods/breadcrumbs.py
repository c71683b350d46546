"""Model breadcrumbs (Davari & Belilovsky 2023, arXiv:2312.06795): leave out outliers and small entries."""

import numpy as np
from numpy.typing import NDArray

from safety_tax.merging.ranks import ranked
from safety_tax.merging.recipes import Breadcrumbs
from safety_tax.merging.thinned import Thinned, thinned_sum
from safety_tax.merging.updates import Float32, Target, Update


def middle(delta: Float32, density: float, gamma: float) -> NDArray[np.bool_]:
    """Which entries stay, flat: neither in the top `gamma` share by magnitude nor below the `density` share under it.

    Where both cannot be had, fewer outliers go, as in mergekit: `density` is kept.
    """
    kept = max(1, int(density * delta.size))
    top = min(int(gamma * delta.size), delta.size - kept)
    return ranked(delta, delta.size - top - kept, delta.size - top)


def merge(updates: list[Update], recipe: Breadcrumbs, target: Target) -> Float32:
    """Weighted sum of what stays of the task vectors, times `scale`."""
    kept = [Thinned(u.weight, u.delta, middle(u.delta, recipe.density, recipe.gamma)) for u in updates]
    return thinned_sum(kept, recipe.scale)
