"""Task arithmetic (Ilharco et al. 2022, arXiv:2212.04089): scale · Σ wᵢ δᵢ."""

from safety_tax.merging.recipes import TaskArithmetic
from safety_tax.merging.updates import Float32, Target, Update, weighted_sum


def merge(updates: list[Update], recipe: TaskArithmetic, target: Target) -> Float32:
    """Weighted sum of the task vectors, times `scale`."""
    return weighted_sum(updates, recipe.scale)
