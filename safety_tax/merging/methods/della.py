"""DELLA (Deep et al. 2024, arXiv:2406.11617): drop small entries more often than large ones, rescale, elect signs.

Rescaled by 1/p, as in the paper, so that the mean over seeds is the undropped task vector; mergekit rescales to the
L1 norm from before the drop.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from safety_tax.core.arrays import Float32
from safety_tax.merging.recipe import Density, DonorRecipe, Scale
from safety_tax.merging.thinned import Thinned, elected_mean, magnitude_drop
from safety_tax.merging.updates import Target, Update
from safety_tax.settings.section import Seed


class Della(DonorRecipe):
    """W0 + scale · elect(wᵢ mᵢ δᵢ / pᵢ), mᵢ ~ Bernoulli(pᵢ) (Deep et al. 2024, arXiv:2406.11617).

    Within a row, pᵢ rises with the rank of |δᵢ| from density − epsilon to density + epsilon. The paper's 1/pᵢ keeps
    the mean over seeds; mergekit rescales to the L1 norm from before the drop.
    """

    method: Literal["della"]
    scale: Scale = 1.0
    density: Density = 1.0
    epsilon: Annotated[float, Field(ge=0, lt=0.5)] = 0.15
    normalize: bool = True
    seed: Seed = 0

    @model_validator(mode="after")
    def _probabilities(self) -> "Della":
        if self.density < 1 and not self.epsilon < min(self.density, 1 - self.density):
            raise ValueError("density ± epsilon must lie inside (0, 1)")
        return self

    def merge(self, updates: list[Update], target: Target) -> Float32:
        """DELLA of the task vectors, times `scale`."""
        dropped = [
            Thinned(update.weight, magnitude_drop(update, self.density, self.epsilon, self.seed, target.name))
            for update in updates
        ]
        return elected_mean(dropped, self.scale, self.normalize)
