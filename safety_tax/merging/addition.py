"""ΔU + alpha · f(ΔS): what `sst`, `alignguard` and the two controls share."""

from collections.abc import Callable

from safety_tax.merging.recipes import SafetyRecipe
from safety_tax.merging.updates import Float32, Update, weighted_sum


def add_changed(updates: list[Update], recipe: SafetyRecipe, change: Callable[[Update], Float32] | None) -> Float32:
    """Sum of the updates, with `change` applied to those of the safety donors; None is plain addition."""

    def changed(update: Update) -> Update:
        if update.donor not in recipe.safety:
            return update
        delta = change(update) if change else update.delta
        return update._replace(weight=update.weight * recipe.alpha, delta=delta)

    return weighted_sum([changed(update) for update in updates])
