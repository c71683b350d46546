"""Weighted mean of the donors: W0 + Σ wᵢ δᵢ / Σ wᵢ (Wortsman et al. 2022, arXiv:2203.05482)."""

from safety_tax.merging.recipes import Linear
from safety_tax.merging.updates import Float32, Target, Update, weighted_sum


def merge(updates: list[Update], recipe: Linear, target: Target) -> Float32:
    """Weighted mean of the task vectors; a donor that leaves the tensor alone counts as zeros."""
    return weighted_sum(updates, 1 / target.total_weight)
