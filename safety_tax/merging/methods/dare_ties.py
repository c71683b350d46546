"""DARE (Yu et al. 2023, arXiv:2311.03099) before the sign election of TIES."""

from typing import Literal

from safety_tax.core.arrays import Float32
from safety_tax.merging.recipe import Density, DonorRecipe, Scale
from safety_tax.merging.thinned import drop, elected_mean
from safety_tax.merging.updates import Target, Update
from safety_tax.settings.section import Seed


class DareTies(DonorRecipe):
    """As `dare_linear`, then the sign election of `ties`.

    Averages those that agree, as TIES does; mergekit's default is `normalize: false`, which sums them.
    """

    method: Literal["dare_ties"]
    scale: Scale = 1.0
    density: Density = 1.0
    normalize: bool = True
    seed: Seed = 0

    def merge(self, updates: list[Update], target: Target) -> Float32:
        """DARE-TIES of the task vectors, times `scale`."""
        dropped = [drop(update, self.density, self.seed, target.name) for update in updates]
        return elected_mean(dropped, self.scale, self.normalize)
