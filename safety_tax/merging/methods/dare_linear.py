"""DARE (Yu et al. 2023, arXiv:2311.03099): drop entries at random, rescale the rest.

Rescaled by 1/density, as in the paper, so that the mean over seeds is the undropped task vector; mergekit rescales
to the L1 norm from before the drop.
"""

from typing import Literal

import numpy as np

from safety_tax.core.arrays import Float32
from safety_tax.merging.recipe import Density, Recipe, Scale
from safety_tax.merging.thinned import Thinned, thinned_sum
from safety_tax.merging.updates import Target, Update, generator
from safety_tax.settings.section import Seed


def drop(update: Update, density: float, seed: int, name: str) -> Thinned:
    """Keep each entry with probability `density`, divided by `density`."""
    drawn = generator(seed, update.place, name).random(update.delta.shape, dtype=np.float32)
    return Thinned(update.weight, update.delta, drawn < density, density)


class DareLinear(Recipe):
    """W0 + scale · Σ wᵢ mᵢ δᵢ / density, mᵢ ~ Bernoulli(density) (Yu et al. 2023, arXiv:2311.03099).

    The paper's 1/density keeps the mean over seeds; mergekit rescales to the L1 norm from before the drop.
    """

    method: Literal["dare_linear"]
    scale: Scale = 1.0
    density: Density = 1.0
    seed: Seed = 0

    def merge(self, updates: list[Update], target: Target) -> Float32:
        """Weighted sum of the dropped task vectors, times `scale`."""
        dropped = [drop(update, self.density, self.seed, target.name) for update in updates]
        return thinned_sum(dropped, self.scale)
