"""Recipes that differ in their dial alone (`scale`, `alpha` or `t`), compared at matched safety."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.lib.recipes import Recipe
from stages.lib.statistics.frontier import hypervolume, matched_loss

# At zero, this dial leaves the base as it is; alpha and t do not, so theirs do not begin there.
FROM_BASE = "scale"


def families(recipes: Mapping[str, Recipe]) -> list[list[str]]:
    """Names of the recipes of each family of two or more, by rising dial."""
    members: dict[str, list[str]] = {}
    dials: dict[str, float] = {}
    for name, recipe in recipes.items():
        if recipe.dial is not None:
            members.setdefault(recipe.model_dump_json(exclude={recipe.dial}), []).append(name)
            dials[name] = getattr(recipe, recipe.dial)
    ordered = (sorted(names, key=dials.__getitem__) for names in members.values())
    return [names for names in ordered if len(names) > 1]


def family_numbers(names: Sequence[str], summary: Mapping[str, Mapping[str, Any]], dial: str | None) -> dict[str, Any]:
    """Of one family: the loss at half its largest recipe's gain, and the area it commands beyond the base and chance.

    A `scale` begins at the base, which gained and lost nothing. `matched_loss` is absent when there is no gain, or
    the dial does not reach half of it from below.
    """
    effects = [(0.0, 0.0)] if dial == FROM_BASE else []
    effects += [(summary[name]["safety_gain"], summary[name]["utility_loss"]) for name in names]
    rates = [(summary[name]["safety"], summary[name]["utility"]) for name in names]
    base = summary["base"]
    numbers: dict[str, Any] = {
        "members": list(names),
        "hypervolume": hypervolume(rates, (base["safety"], base["chance"])),
    }
    loss = matched_loss(effects, donor_gain=effects[-1][0])
    return numbers if loss is None else numbers | {"matched_loss": loss}
