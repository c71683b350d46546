"""Control of `safe_merge`: as many layers, chosen at random."""

from typing import ClassVar, Literal

from safety_tax.core.arrays import Float32
from safety_tax.merging.alignment import AlignmentRecipe
from safety_tax.merging.methods.safe_merge import mixed
from safety_tax.merging.updates import Target, Update, generator, is_layer_matrix
from safety_tax.settings.section import Seed, Share


class RandomLayers(AlignmentRecipe):
    """Control of `safe_merge`: mixes each linear layer with the safety donors with probability k, whatever it holds.

    Set `k` to the `layers_changed` that `merge.json` of the recipe has which it is to control.
    """

    dial: ClassVar[str | None] = "share"
    method: Literal["random_layers"]
    k: Share
    share: Share
    """Of the safety donors, in a layer that is merged."""
    seed: Seed = 0

    def changes(self, updates: list[Update], target: Target) -> bool:
        """Only where another donor than the safe ones does."""
        return bool(self.split(updates)[1])

    def merge(self, updates: list[Update], target: Target) -> Float32:
        """As `safe_merge`, by lot; a smaller k takes a part of the layers that a larger one takes."""
        safe, others = self.split(updates)
        layer = is_layer_matrix(target.name, others[0].delta)
        taken = layer and generator(self.seed, 0, target.name).random() < self.k
        target.notes.update({"judged layers": float(layer), "changed layers": float(taken)})
        return mixed(safe, others, self.share if taken else 0.0)
