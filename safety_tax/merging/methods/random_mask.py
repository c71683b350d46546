"""Control of `sst` with `diagonal` curvature: a random share k of the safety update's entries."""

from typing import Literal

import numpy as np

from safety_tax.core.arrays import Float32
from safety_tax.merging.recipe import Density, SafetyRecipe
from safety_tax.merging.updates import Target, Update, generator, is_layer_matrix
from safety_tax.settings.section import Seed


class RandomMask(SafetyRecipe):
    """Control of `sst` (`diagonal`): keeps each entry of ΔS with probability k, chosen at random."""

    method: Literal["random_mask"]
    k: Density
    seed: Seed = 0

    def merge(self, updates: list[Update], target: Target) -> Float32:
        """As `sst`, with a mask that knows nothing; a smaller k keeps a part of what a larger one keeps."""
        if self.k == 1:
            return self.add_changed(updates, None)

        def mask(update: Update) -> Float32:
            if not is_layer_matrix(target.name, update.delta):
                return np.zeros_like(update.delta)
            # One mask for all donors, as the curvature's is.
            drawn = generator(self.seed, 0, target.name).random(update.delta.shape, dtype=np.float32)
            return np.where(drawn < self.k, update.delta, np.float32(0))

        return self.add_changed(updates, mask)
