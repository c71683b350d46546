"""DARE (Yu et al. 2023, arXiv:2311.03099) before the sign election of TIES."""

from safety_tax.merging.methods.dare_linear import drop
from safety_tax.merging.recipes import DareTies
from safety_tax.merging.thinned import elected_mean
from safety_tax.merging.updates import Float32, Target, Update


def merge(updates: list[Update], recipe: DareTies, target: Target) -> Float32:
    """DARE-TIES of the task vectors, times `scale`."""
    dropped = [drop(update, recipe.density, recipe.seed, target.name) for update in updates]
    return elected_mean(dropped, recipe.scale, recipe.normalize)
