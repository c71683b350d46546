"""Spherical interpolation (Shoemake 1985) between two task vectors, each tensor taken as one vector."""

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from safety_tax.core.arrays import Float32
from safety_tax.merging.angles import PARALLEL, cosine
from safety_tax.merging.recipe import DonorRecipe
from safety_tax.merging.updates import Target, Update, weighted_sum


class Slerp(DonorRecipe):
    """W0 + slerp(t; w₁ δ₁, w₂ δ₂), along the great circle between two task vectors (Shoemake 1985).

    δ₁, where `t` is 0, is that of the donor whose name comes first in the alphabet, however they are listed.

    mergekit interpolates whole weights. LoRA donors' weights are all but parallel (cosine above .999), and slerp of
    them is linear; between the task vectors there is an angle. Below an angle of arccos .9995, linear as in mergekit.
    """

    dial: ClassVar[str | None] = "t"
    method: Literal["slerp"]
    t: Annotated[float, Field(ge=0, le=1)]

    @model_validator(mode="after")
    def _two_donors(self) -> "Slerp":
        if len(self.donors) != 2:
            raise ValueError(f"slerp goes between two donors, and has {len(self.donors)}")
        return self

    def merge(self, updates: list[Update], target: Target) -> Float32:
        """sin((1−t)θ)/sin θ · w₁ δ₁ + sin(tθ)/sin θ · w₂ δ₂; straight where a donor leaves the tensor alone."""
        shares = [1 - self.t, self.t]
        if len(updates) == 2:
            angle = cosine(updates[0].delta, updates[1].delta)
            if abs(angle) <= PARALLEL and all(update.delta.any() for update in updates):
                theta = np.arccos(angle)
                shares = [float(np.sin(share * theta) / np.sin(theta)) for share in shares]
        return weighted_sum([update._replace(weight=update.weight * shares[update.place]) for update in updates])
