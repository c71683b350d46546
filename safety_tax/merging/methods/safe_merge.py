"""SafeMERGE (Djuhera et al. 2025, arXiv:2503.17239): merge with the safety donor the layers that left its subspace."""

from typing import ClassVar, Literal

from safety_tax.core.arrays import Float32
from safety_tax.merging.alignment import SubspaceRecipe
from safety_tax.merging.updates import Target, Update, weighted_sum
from safety_tax.settings.section import Share


def mixed(safe: list[Update], others: list[Update], share: float) -> Float32:
    """(1 − share) · ΔU + share · ΔS."""
    return weighted_sum(
        [
            *(update._replace(weight=update.weight * share) for update in safe),
            *(update._replace(weight=update.weight * (1 - share)) for update in others),
        ]
    )


class SafeMerge(SubspaceRecipe):
    """W0 + (1 − share) · ΔU + share · ΔS in a layer where cos(C ΔU, ΔU) < threshold, W0 + ΔU elsewhere (Djuhera et al.
    2025, arXiv:2503.17239).

    C as in `safe_lora`, of V, what alignment changed. The authors' own merges have threshold .35 and share .2. They
    merge the two matrices of LoRA, whose product has cross terms; here the updates themselves are merged. Outside the
    layers' linear weights, and where the others leave a layer alone, nothing of ΔS is taken. `merge.json` says in which
    share of the layers it was (`layers_changed`); `random_layers` is the control that takes as many at random.
    """

    dial: ClassVar[str | None] = "share"
    method: Literal["safe_merge"]
    share: Share
    """Of the safety donors, in a layer that is merged."""

    def changes(self, updates: list[Update], target: Target) -> bool:
        """Only where another donor than the safe ones does."""
        return bool(self.split(updates)[1])

    def merge(self, updates: list[Update], target: Target) -> Float32:
        """The others' update, mixed with the safety donors' where it left the subspace."""
        safe, others = self.split(updates)
        left, _ = self.judged(weighted_sum(others), self.vector(updates, target), target)
        return mixed(safe, others, self.share if left else 0.0)
