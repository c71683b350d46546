"""Recipes that differ in their dial alone (`scale`, `alpha` or `t`), compared at matched safety."""

from bisect import bisect
from collections.abc import Mapping, Sequence

from safety_tax.merging.methods.task_arithmetic import TaskArithmetic
from safety_tax.merging.recipe import Recipe
from safety_tax.results.statistics.frontier import hypervolume, matched_loss
from safety_tax.results.variant import Family, VariantResult

# At zero, this dial leaves the base as it is; alpha and t do not, so theirs do not begin there.
FROM_BASE = "scale"


def families(recipes: Mapping[str, Recipe]) -> list[list[str]]:
    """Names of the recipes of each family of two or more, by rising dial."""
    members: dict[str, list[str]] = {}
    dials: dict[str, float] = {}
    for name, recipe in recipes.items():
        if recipe.dial is not None:
            members.setdefault(recipe.model_dump_json(exclude={recipe.dial, "models"}), []).append(name)
            dials[name] = getattr(recipe, recipe.dial)
    ordered = (sorted(names, key=dials.__getitem__) for names in members.values())
    return [names for names in ordered if len(names) > 1]


def donors_alone(recipes: Mapping[str, Recipe], family: Sequence[str]) -> list[str]:
    """The recipes that add one of the family's donors, whole and alone: their gain is the family's yardstick."""
    donors = recipes[family[0]].reads()
    return [
        name
        for name, recipe in recipes.items()
        if isinstance(recipe, TaskArithmetic)
        and recipe.scale == 1
        and len(recipe.donors) == 1
        and all(donor in donors and weight == 1 for donor, weight in recipe.donors.items())
    ]


def family_result(family: Mapping[str, Recipe], variants: Mapping[str, VariantResult], donors: Sequence[str]) -> Family:
    """Of one family, by rising dial and for each currency: the loss at half its donor's gain, and the area beyond the
    base's safety and guessing.

    `donors` are the recipes that add one of its donors alone; the one with the largest gain is the yardstick. At a
    `scale` of zero stands the base, which gained and lost nothing. A currency has no `matched_loss` where no donor
    surely gains, where the base has nothing to lose in it, and where the dial does not enclose half of the gain.
    """
    base = variants["base"]
    gains = {name: variants[name].gain.value for name in donors if variants[name].gain.above_zero}
    donor = max(gains, key=gains.__getitem__, default=None)
    area, matched = {}, {}
    for currency, of_base in base.currencies.items():
        points = [
            (variants[name].rates["safety"].value, variants[name].currencies[currency].value.value) for name in family
        ]
        area[currency] = hypervolume(points, (base.rates["safety"].value, of_base.chance))
        if donor is None or of_base.standing != "measurable":
            continue
        effects = [(variants[name].gain.value, variants[name].paid[currency].loss.value) for name in family]
        if all(recipe.dial == FROM_BASE for recipe in family.values()):
            effects.insert(bisect([getattr(recipe, FROM_BASE) for recipe in family.values()], 0), (0.0, 0.0))
        loss = matched_loss(effects, donor_gain=gains[donor])
        if loss is not None:
            matched[currency] = loss
    return Family(
        members=list(family), hypervolume=area, matched_loss=matched, matched_donor=donor if matched else None
    )
