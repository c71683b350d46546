"""Recipes that differ in their dial alone (`scale`, `alpha` or `t`), compared at matched safety."""

from bisect import bisect
from collections.abc import Mapping, Sequence
from typing import Any

from stages.lib.recipes import Recipe, TaskArithmetic
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


def donors_alone(recipes: Mapping[str, Recipe], family: Sequence[str]) -> list[str]:
    """The recipes that add one of the family's donors, whole and alone: their gain is the family's yardstick."""
    donors = recipes[family[0]].donors
    return [
        name
        for name, recipe in recipes.items()
        if isinstance(recipe, TaskArithmetic)
        and recipe.scale == 1
        and len(recipe.donors) == 1
        and all(donor in donors and weight == 1 for donor, weight in recipe.donors.items())
    ]


def family_numbers(
    family: Mapping[str, Recipe], summary: Mapping[str, Mapping[str, Any]], donors: Sequence[str]
) -> dict[str, Any]:
    """Of one family, by rising dial: the loss at half its donor's gain, and the area beyond the base and chance.

    `donors` are the recipes that add one of its donors alone; the one with the largest gain is the yardstick. At a
    `scale` of zero stands the base, which gained and lost nothing. `matched_loss` is absent where no donor surely
    gains, where the base is at chance, so that no loss shows, and where the dial does not enclose half of the gain.
    """
    base = summary["base"]
    rates = [(summary[name]["safety"], summary[name]["utility"]) for name in family]
    numbers: dict[str, Any] = {
        "members": list(family),
        "hypervolume": hypervolume(rates, (base["safety"], base["chance"])),
    }
    gains = {name: summary[name]["safety_gain"] for name in donors if summary[name]["safety_gain_lo"] > 0}
    if base["utility_status"] == "at_chance" or not gains:
        return numbers
    donor = max(gains, key=gains.__getitem__)
    effects = [(summary[name]["safety_gain"], summary[name]["utility_loss"]) for name in family]
    if all(recipe.dial == FROM_BASE for recipe in family.values()):
        effects.insert(bisect([getattr(recipe, FROM_BASE) for recipe in family.values()], 0), (0.0, 0.0))
    loss = matched_loss(effects, donor_gain=gains[donor])
    return numbers if loss is None else numbers | {"matched_loss": loss, "matched_donor": donor}
