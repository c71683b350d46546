"""Control of `sst` with `kfac` curvature: a random subspace of the same dimension on the input side."""

import numpy as np

from safety_tax.merging.addition import add_changed
from safety_tax.merging.curvature import dimension
from safety_tax.merging.recipes import RandomSubspace
from safety_tax.merging.updates import Float32, Target, Update, generator, is_layer_matrix


def merge(updates: list[Update], recipe: RandomSubspace, target: Target) -> Float32:
    """As `sst`, with directions that know nothing; a smaller k spans a part of what a larger one spans."""
    if recipe.k == 1:
        return add_changed(updates, recipe, None)

    def project(update: Update) -> Float32:
        delta = update.delta
        if not is_layer_matrix(target.name, delta):
            return np.zeros_like(delta)
        columns = delta.shape[1]
        shape = (dimension(recipe.k, columns), columns)
        drawn = generator(recipe.seed, 0, target.name).standard_normal(shape, dtype=np.float32)
        basis: Float32 = np.linalg.qr(drawn.T)[0]
        projected: Float32 = np.matmul(delta @ basis, basis.T, dtype=np.float32)
        return projected

    return add_changed(updates, recipe, project)
