"""DARE (Yu et al. 2023, arXiv:2311.03099) before the sign election of TIES."""

from stages.lib.merging.dare_linear import drop
from stages.lib.merging.thinned import elected_mean
from stages.lib.merging.updates import Float32, Target, Update
from stages.lib.recipes import DareTies


def merge(updates: list[Update], recipe: DareTies, target: Target) -> Float32:
    """DARE-TIES of the task vectors, times `scale`."""
    dropped = [drop(update, recipe.density, recipe.seed, target.name) for update in updates]
    return elected_mean(dropped, recipe.scale, recipe.normalize)
