"""LED-Merging (Ma et al. 2025, arXiv:2502.16770): locate what matters to each donor, elect it, keep it disjoint."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from safety_tax.core.arrays import Float32
from safety_tax.merging.recipe import DonorRecipe, Scale
from safety_tax.merging.thinned import Thinned, thinned_sum
from safety_tax.merging.updates import Target, Update, generator
from safety_tax.settings.section import Seed


class Led(DonorRecipe):
    """W0 + scale · Σ wᵢ mᵢ δᵢ, mᵢ the entries elected for donor i and for no other (Ma et al. 2025, arXiv:2502.16770).

    Located: an entry's importance is the mean over rows of the donor's task of |W · ∇ −log p(response | prompt)|, in
    the base and in the donor (stage `importance`). Elected: it is among the top share `rates` of its tensor in both.
    Disjoint: entries that two donors elect are left to the base. So are embeddings, norms and head, which are not
    located here; the paper locates them, too. `located: shuffled` is the control: the scores of each tensor in a random
    order, so that as many entries are elected, anywhere.
    """

    method: Literal["led"]
    rates: dict[str, Annotated[float, Field(gt=0, le=1)]]
    """By donor."""
    located: Literal["importance", "shuffled"] = "importance"
    scale: Scale = 1.0
    seed: Seed = 0

    @model_validator(mode="after")
    def _a_rate_for_each(self) -> "Led":
        if set(self.rates) != set(self.donors):
            raise ValueError(
                f"rates has {', '.join(self.rates) or 'none'}; give one for each of {', '.join(self.donors)}"
            )
        return self

    def located_donors(self) -> list[str]:
        """All of them."""
        return list(self.donors)

    def merge(self, updates: list[Update], target: Target) -> Float32:
        """Weighted sum of what each donor alone elects, times `scale`."""
        assert target.importance is not None
        elected: dict[str, NDArray[np.bool_]] = {}
        for place, donor in enumerate(self.donors):
            score = target.importance.score(donor, target.name)
            if score is None:
                return np.zeros_like(updates[0].delta)
            flat = score.reshape(-1)
            if self.located == "shuffled":
                flat = generator(self.seed, place, target.name).permutation(flat)
            elected[donor] = flat > 1 - self.rates[donor]
        times = sum(mask.astype(np.uint8) for mask in elected.values())
        kept = [Thinned(update.weight, update.delta, elected[update.donor] & (times == 1)) for update in updates]
        return thinned_sum(kept, self.scale)
