"""DARE (Yu et al. 2023, arXiv:2311.03099): drop entries at random, rescale the rest.

Rescaled by 1/density, as in the paper, so that the mean over seeds is the undropped task vector; mergekit rescales
to the L1 norm from before the drop.
"""

from typing import Literal

from safety_tax.core.arrays import Float32
from safety_tax.merging.recipe import Density, DonorRecipe, Scale
from safety_tax.merging.thinned import drop, thinned_sum
from safety_tax.merging.updates import Target, Update
from safety_tax.settings.section import Seed


class DareLinear(DonorRecipe):
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
