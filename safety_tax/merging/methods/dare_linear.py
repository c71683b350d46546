"""DARE (Yu et al. 2023, arXiv:2311.03099): drop entries at random, rescale the rest.

Rescaled by 1/density, as in the paper, so that the mean over seeds is the undropped task vector; mergekit rescales
to the L1 norm from before the drop.
"""

import numpy as np

from safety_tax.merging.recipes import DareLinear
from safety_tax.merging.thinned import Thinned, thinned_sum
from safety_tax.merging.updates import Float32, Target, Update, generator


def drop(update: Update, density: float, seed: int, name: str) -> Thinned:
    """Keep each entry with probability `density`, divided by `density`."""
    drawn = generator(seed, update.place, name).random(update.delta.shape, dtype=np.float32)
    return Thinned(update.weight, update.delta, drawn < density, density)


def merge(updates: list[Update], recipe: DareLinear, target: Target) -> Float32:
    """Weighted sum of the dropped task vectors, times `scale`."""
    dropped = [drop(update, recipe.density, recipe.seed, target.name) for update in updates]
    return thinned_sum(dropped, recipe.scale)
