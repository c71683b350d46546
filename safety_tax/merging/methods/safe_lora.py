"""Safe LoRA (Hsu et al. 2024, arXiv:2405.16833): project an update that left the safety subspace back onto it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from safety_tax.core.arrays import Float32
from safety_tax.merging.alignment import SubspaceRecipe
from safety_tax.merging.updates import Target, Update, weighted_sum


class SafeLora(SubspaceRecipe):
    """W0 + alpha · ΔS + (C ΔU where cos(C ΔU, ΔU) < threshold, else ΔU), C = V Vᵀ / ‖V‖ (Hsu et al. 2024,
    arXiv:2405.16833).

    V is what alignment changed. The paper's base is the aligned model itself: there name `unaligned`, and no `safety`
    donors. Each linear layer and each donor is judged by itself. C is no projection: it shrinks or stretches with V,
    and the paper does not ask what that alone does. `projection: orthogonal` does not, and `subspace: shuffled` keeps
    the size of V and forgets its direction. Threshold 0 is plain addition.
    """

    dial: ClassVar[str | None] = "alpha"
    method: Literal["safe_lora"]
    alpha: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """What the safety donors' update is multiplied by."""

    def merge(self, updates: list[Update], target: Target) -> Float32:
        """The safety donors whole, times alpha, and of the others what the subspace holds where they left it."""
        safe, others = self.split(updates)
        vector = self.vector(updates, target)
        kept = []
        for update in others:
            left, projected = self.judged(update.delta, vector, target)
            kept.append(update._replace(delta=projected()) if left else update)
        return weighted_sum([*(update._replace(weight=update.weight * self.alpha) for update in safe), *kept])
