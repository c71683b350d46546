"""Weighted mean of the donors: W0 + Σ wᵢ δᵢ / Σ wᵢ (Wortsman et al. 2022, arXiv:2203.05482)."""

from typing import ClassVar, Literal

from safety_tax.core.arrays import Float32
from safety_tax.merging.recipe import DonorRecipe
from safety_tax.merging.updates import Target, Update, weighted_sum


class Linear(DonorRecipe):
    """W0 + Σ wᵢ δᵢ / Σ wᵢ, which is the weighted mean of the donors' weights (Wortsman et al. 2022, arXiv:2203.05482).

    mergekit's `normalize: false` would scale the base, too, and is not offered.
    """

    dial: ClassVar[str | None] = None
    method: Literal["linear"]

    def merge(self, updates: list[Update], target: Target) -> Float32:
        """Weighted mean of the task vectors; a donor that leaves the tensor alone counts as zeros."""
        return weighted_sum(updates, 1 / target.total_weight)
