"""Safety Subspace Task-merge: W0 + ΔU + alpha · P(ΔS)."""

from typing import Literal

import numpy as np

from safety_tax.core.arrays import Float32
from safety_tax.merging.recipe import Density, SafetyRecipe
from safety_tax.merging.thinned import largest
from safety_tax.merging.updates import Target, Update, is_layer_matrix


class Sst(SafetyRecipe):
    """W0 + ΔU + alpha · P(ΔS): only the part of ΔS that acts where harmful inputs are strong and benign ones weak.

    `kfac`: in every linear layer solve C_h v = λ (C_b + εI) v, with C the second moments of its inputs; V is the top
    share `k` of the v. P projects the rows of ΔS onto span(V), orthogonally in M = C_b + εI: P(ΔS) = ΔS M V Vᵀ, with
    Vᵀ M V = I. tr(P(ΔS) M P(ΔS)ᵀ), the update's mean square on benign inputs, rises with k.
    `diagonal`: keep the share `k` of the entries with the largest F_h / (F_b + ε), F the diagonal empirical Fisher of
    response tokens, squared row by row of the data.
    k = 1 is plain addition. Below 1, what ΔS does outside the layers' linear weights is left out.
    """

    method: Literal["sst"]
    curvature: Literal["kfac", "diagonal"]
    k: Density

    def merge(self, updates: list[Update], target: Target) -> Float32:
        """The other donors whole, and of the safety donors the part in the safety subspace. k = 1 is plain addition."""
        curvature = target.curvature
        if self.k == 1:
            return self.add_changed(updates, None)
        assert curvature is not None

        def project(update: Update) -> Float32:
            delta = update.delta
            if not is_layer_matrix(target.name, delta):
                return np.zeros_like(delta)
            if self.curvature == "kfac":
                duals, directions = curvature.subspace(target.name, self.k)
                projected: Float32 = np.matmul(delta @ duals.T, directions, dtype=np.float32)
                return projected
            kept = largest(curvature.ratio(target.name), self.k)
            return delta if kept is None else np.where(kept.reshape(delta.shape), delta, np.float32(0))

        return self.add_changed(updates, project)

    def curvature_form(self) -> Literal["kfac", "diagonal"] | None:
        """None where nothing is left out."""
        return self.curvature if self.k < 1 else None
