"""Fisher-guided damping, after AlignGuard-LoRA (Das et al. 2025, arXiv:2508.02079); see `Alignguard` in recipes.py."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from safety_tax.core.arrays import Float32, by_blocks
from safety_tax.merging.recipe import SafetyRecipe
from safety_tax.merging.updates import Target, Update, is_layer_matrix


class Alignguard(SafetyRecipe):
    """W0 + ΔU + alpha · ΔS / (1 + damping · F̂): ΔS is damped where the base's curvature on refused rows is high.

    After AlignGuard-LoRA (Das et al. 2025, arXiv:2508.02079), whose training penalty λ‖F^½ ΔW‖² protects weights that
    alignment hangs on. Merging trains nothing: this is the closed-form minimum of ‖X − ΔS‖² + damping · ‖F̂^½ X‖², F̂ the
    harmful rows' diagonal Fisher over its mean in the tensor. Its eigen-decomposition of F and its collision
    terms are not taken over. Tensors without a Fisher (embeddings, norms) are not damped.
    """

    method: Literal["alignguard"]
    damping: Annotated[float, Field(ge=0, le=1e6)] = 1.0

    def merge(self, updates: list[Update], target: Target) -> Float32:
        """The other donors whole, and alpha · ΔS / (1 + damping · F̂) of the safety donors."""
        curvature = target.curvature
        if self.damping == 0:
            return self.add_changed(updates, None)
        assert curvature is not None

        def damp(update: Update) -> Float32:
            if not is_layer_matrix(target.name, update.delta):
                return update.delta
            fisher, delta = curvature.fisher(target.name).reshape(-1), update.delta.reshape(-1)
            mean = float(np.mean(fisher, dtype=np.float64))
            factor = np.float32(self.damping / mean) if mean else np.float32(0)
            return by_blocks(update.delta, lambda block: delta[block] / (1 + factor * fisher[block]))

        return self.add_changed(updates, damp)

    def curvature_form(self) -> Literal["kfac", "diagonal"] | None:
        """None where nothing is damped."""
        return "diagonal" if self.damping else None
