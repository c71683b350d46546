"""Fisher-guided damping, after AlignGuard-LoRA (Das et al. 2025, arXiv:2508.02079); see `Alignguard` in recipes.py."""

import numpy as np

from safety_tax.merging.addition import add_changed
from safety_tax.merging.recipes import Alignguard
from safety_tax.merging.updates import Float32, Target, Update, by_blocks, is_layer_matrix


def merge(updates: list[Update], recipe: Alignguard, target: Target) -> Float32:
    """The other donors whole, and alpha · ΔS / (1 + damping · F̂) of the safety donors."""
    curvature = target.curvature
    if recipe.damping == 0:
        return add_changed(updates, recipe, None)
    assert curvature is not None

    def damp(update: Update) -> Float32:
        if not is_layer_matrix(target.name, update.delta):
            return update.delta
        fisher, delta = curvature.fisher(target.name).reshape(-1), update.delta.reshape(-1)
        mean = float(np.mean(fisher, dtype=np.float64))
        factor = np.float32(recipe.damping / mean) if mean else np.float32(0)
        return by_blocks(update.delta, lambda block: delta[block] / (1 + factor * fisher[block]))

    return add_changed(updates, recipe, damp)
