"""The safety subspace of a layer: where alignment moved its weights (Hsu et al. 2024, arXiv:2405.16833).

V = W_aligned − W_unaligned, [out, in]. Where the papers have a chat model and the model that it was made from, this
project's default is the base with the safety donors, and the base.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from pydantic import model_validator

from safety_tax.core.arrays import Float32
from safety_tax.merging.angles import cosine
from safety_tax.merging.recipe import DonorRecipe
from safety_tax.merging.updates import Target, Update, generator, is_layer_matrix, weighted_sum
from safety_tax.settings.section import Seed, Share

NO_DIRECTION = 1e-5
"""A singular value of V below this share of its largest is rounding."""
Projection = Literal["approximate", "orthogonal"]


class AlignmentRecipe(DonorRecipe):
    """A recipe that knows what alignment changed.

    V is δ(aligned) − δ(unaligned), two donors that need no weight. Where only one of them is named, the other one is
    the base. Where neither is, V is the weighted sum of the `safety` donors' task vectors.
    """

    safety: list[str] = []  # noqa: RUF012 (pydantic copies it)
    """The donors that are safe; the others are what they are to make safe."""
    aligned: str | None = None
    unaligned: str | None = None

    @model_validator(mode="after")
    def _has_a_direction(self) -> "AlignmentRecipe":
        for name in self.safety:
            if name not in self.donors:
                raise ValueError(f"safety names {name!r}, which is none of its donors: {', '.join(self.donors)}")
        if not self.safety and self.aligned is None and self.unaligned is None:
            raise ValueError("what is safe is not said; name `safety` donors, or `aligned` or `unaligned`")
        if set(self.donors) <= set(self.safety):
            raise ValueError("all its donors are `safety` donors; add one that is to be made safe")
        return self

    def reads(self) -> list[str]:
        """Its donors, and the pair."""
        pair = [name for name in (self.aligned, self.unaligned) if name is not None]
        return sorted({*self.donors, *pair})

    def split(self, updates: list[Update]) -> tuple[list[Update], list[Update]]:
        """The updates of the safety donors, and the others."""
        safe = [update for update in updates if update.donor in self.safety]
        return safe, [update for update in updates if update.donor not in self.safety]

    def vector(self, updates: list[Update], target: Target) -> Float32 | None:
        """V of one tensor; None where alignment left it alone."""
        if self.aligned is None and self.unaligned is None:
            parts = self.split(updates)[0]
        else:
            pair = [(name, sign) for name, sign in ((self.aligned, 1.0), (self.unaligned, -1.0)) if name is not None]
            parts = [Update(name, 0, sign, target.deltas[name]) for name, sign in pair if name in target.deltas]
        vector = weighted_sum(parts) if parts else None
        return vector if vector is not None and vector.any() else None


class SubspaceRecipe(AlignmentRecipe):
    """A recipe that asks of each linear layer how much of an update lies where alignment moved its weights."""

    threshold: Share
    """An update whose cosine to its own projection is below it has left the safety subspace; 1 takes every layer."""
    projection: Projection = "approximate"
    """C Δ with C = V Vᵀ / ‖V‖, as the papers compute it, or with the orthogonal projection V (Vᵀ V)⁻¹ Vᵀ that it is
    to stand for."""
    subspace: Literal["alignment", "shuffled"] = "alignment"
    """`shuffled` is the control: the rows of V in a random order, a subspace of the same size that knows nothing."""
    seed: Seed = 0

    def judged(self, delta: Float32, vector: Float32 | None, target: Target) -> tuple[bool, Callable[[], Float32]]:
        """Whether an update has left the subspace, and its projection.

        Never where alignment left the tensor alone, and outside the layers' linear weights, which the papers do not
        tune.
        """
        if vector is None or not is_layer_matrix(target.name, delta) or not delta.any():
            return False, lambda: delta
        if self.subspace == "shuffled":
            vector = vector[generator(self.seed, 0, target.name).permutation(len(vector))]
        projected = project(vector, delta, self.projection)
        left = self.threshold == 1 or cosine(projected, delta) < self.threshold
        target.notes["judged layers"] = target.notes.get("judged layers", 0) + 1
        target.notes["changed layers"] = target.notes.get("changed layers", 0) + left
        return left, lambda: projected


def project(vector: Float32, delta: Float32, projection: Projection) -> Float32:
    """C Δ, [out, in], of V and Δ of that shape."""
    if projection == "orthogonal":
        directions, sizes, _ = np.linalg.svd(vector, full_matrices=False)
        directions = directions[:, sizes > NO_DIRECTION * sizes[0]]
        projected: Float32 = np.matmul(directions, directions.T @ delta, dtype=np.float32)
        return projected
    rows, columns = vector.shape
    # Whichever way needs the smaller product of V with itself or with Δ.
    left, right = (vector @ vector.T, delta) if rows <= columns else (vector, vector.T @ delta)
    product: Float32 = np.matmul(left, right, dtype=np.float32)
    product /= np.float32(np.linalg.norm(vector))
    return product
