"""Safety Subspace Task-merge: W0 + ΔU + alpha · P(ΔS). The formulas are in `Sst` of `safety_tax/merging/recipes.py`."""

import numpy as np

from safety_tax.merging.addition import add_changed
from safety_tax.merging.methods.ties import largest
from safety_tax.merging.recipes import Sst
from safety_tax.merging.updates import Float32, Target, Update, is_layer_matrix


def merge(updates: list[Update], recipe: Sst, target: Target) -> Float32:
    """The other donors whole, and of the safety donors the part in the safety subspace. k = 1 is plain addition."""
    curvature = target.curvature
    if recipe.k == 1:
        return add_changed(updates, recipe, None)
    assert curvature is not None

    def project(update: Update) -> Float32:
        delta = update.delta
        if not is_layer_matrix(target.name, delta):
            return np.zeros_like(delta)
        if recipe.curvature == "kfac":
            duals, directions = curvature.subspace(target.name, recipe.k)
            projected: Float32 = np.matmul(delta @ duals.T, directions, dtype=np.float32)
            return projected
        kept = largest(curvature.ratio(target.name), recipe.k)
        return delta if kept is None else np.where(kept.reshape(delta.shape), delta, np.float32(0))

    return add_changed(updates, recipe, project)
