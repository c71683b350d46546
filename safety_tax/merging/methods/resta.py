"""RESTA (Bhardwaj et al. 2024, arXiv:2402.11746): add a safety vector to a model that was tuned for another task."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from safety_tax.core.arrays import Float32
from safety_tax.merging.alignment import AlignmentRecipe
from safety_tax.merging.recipe import Density
from safety_tax.merging.thinned import drop, thinned_sum
from safety_tax.merging.updates import Target, Update
from safety_tax.settings.section import Seed


class Resta(AlignmentRecipe):
    """W0 + Σ wᵢ DARE(δᵢ) + alpha · DARE(V), V = W_aligned − W_unaligned (Bhardwaj et al. 2024, arXiv:2402.11746).

    The δᵢ are those of the donors that are not `safety` donors. `density` is what DARE leaves of them, `safety_density`
    what it leaves of the safety vector; 1 leaves all. The paper's unaligned model was tuned on harmful data: name it
    `unaligned`, and the base is the aligned one. At densities of 1 this is task arithmetic, which is its control;
    `seed` draws other entries.
    """

    dial: ClassVar[str | None] = "alpha"
    method: Literal["resta"]
    alpha: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """What the safety vector is multiplied by (the paper's γ)."""
    density: Density = 1.0
    safety_density: Density = 1.0
    seed: Seed = 0

    @model_validator(mode="after")
    def _one_safety_vector(self) -> "Resta":
        if self.safety and (self.aligned or self.unaligned):
            raise ValueError(
                "`safety` donors and `aligned` or `unaligned` say two things of V, and only one is added; remove one"
            )
        return self

    def changes(self, updates: list[Update], target: Target) -> bool:
        """Where a donor has an update, or alignment changed something."""
        return bool(updates) or self.vector(updates, target) is not None

    def merge(self, updates: list[Update], target: Target) -> Float32:
        """The others' dropped updates and the dropped safety vector."""
        _, others = self.split(updates)
        vector = self.vector(updates, target)
        dropped = [drop(update, self.density, self.seed, target.name) for update in others]
        if vector is not None:
            # Its own place in the draw: the others' are those of the donors.
            safety = Update("", len(self.donors), self.alpha, vector)
            dropped.append(drop(safety, self.safety_density, self.seed, target.name))
        return thinned_sum(dropped, 1.0) if dropped else 0 * updates[0].delta
