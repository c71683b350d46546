"""Control of `sst` with `diagonal` curvature: a random share k of the safety update's entries."""

import numpy as np

from safety_tax.merging.addition import add_changed
from safety_tax.merging.recipes import RandomMask
from safety_tax.merging.updates import Float32, Target, Update, generator, is_layer_matrix


def merge(updates: list[Update], recipe: RandomMask, target: Target) -> Float32:
    """As `sst`, with a mask that knows nothing; a smaller k keeps a part of what a larger one keeps."""
    if recipe.k == 1:
        return add_changed(updates, recipe, None)

    def mask(update: Update) -> Float32:
        if not is_layer_matrix(target.name, update.delta):
            return np.zeros_like(update.delta)
        # One mask for all donors, as the curvature's is.
        drawn = generator(recipe.seed, 0, target.name).random(update.delta.shape, dtype=np.float32)
        return np.where(drawn < recipe.k, update.delta, np.float32(0))

    return add_changed(updates, recipe, mask)
