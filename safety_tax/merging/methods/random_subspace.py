"""Control of `sst` with `kfac` curvature: a random subspace of the same dimension on the input side."""

from typing import Literal

import numpy as np

from safety_tax.core.arrays import Float32
from safety_tax.merging.curvature import dimension
from safety_tax.merging.recipe import Density, SafetyRecipe
from safety_tax.merging.updates import Target, Update, generator, is_layer_matrix
from safety_tax.settings.section import Seed


class RandomSubspace(SafetyRecipe):
    """Control of `sst` (`kfac`): projects the rows of ΔS onto a random subspace of the same dimension."""

    method: Literal["random_subspace"]
    k: Density
    seed: Seed = 0

    def merge(self, updates: list[Update], target: Target) -> Float32:
        """As `sst`, with directions that know nothing; a smaller k spans a part of what a larger one spans."""
        if self.k == 1:
            return self.add_changed(updates, None)

        def project(update: Update) -> Float32:
            delta = update.delta
            if not is_layer_matrix(target.name, delta):
                return np.zeros_like(delta)
            columns = delta.shape[1]
            shape = (dimension(self.k, columns), columns)
            drawn = generator(self.seed, 0, target.name).standard_normal(shape, dtype=np.float32)
            basis: Float32 = np.linalg.qr(drawn.T)[0]
            projected: Float32 = np.matmul(delta @ basis, basis.T, dtype=np.float32)
            return projected

        return self.add_changed(updates, project)
