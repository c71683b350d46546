"""A recipe, with what it works on: from an entry of `recipes` to a merge that can be made."""

from pathlib import Path
from typing import NamedTuple

from safety_tax.donors.checks import require_same_vocabulary
from safety_tax.donors.opening import open_donor
from safety_tax.merging.bench import Bench
from safety_tax.merging.curvature import Curvature
from safety_tax.merging.importance import Importance
from safety_tax.merging.merge import Ingredients, Merge, WholeTensors, require_layers
from safety_tax.merging.recipe import DonorRecipe, Recipe, WholeRecipe


class Opened(NamedTuple):
    """A merge, and the folders of all models that it reads."""

    merge: Merge
    inputs: list[Path]


def open_merge(recipe: Recipe, bench: Bench) -> Opened:
    """Open what the recipe reads. Raises PipelineError when a model cannot be had or does not fit the base."""
    if isinstance(recipe, WholeRecipe):
        whole = recipe.whole(bench)
        return Opened(WholeTensors(bench.base, whole.tensor, recipe), [bench.base.path, *whole.inputs])
    assert isinstance(recipe, DonorRecipe)
    require_layers(recipe, bench.base)
    folders = [bench.donors / name for name in recipe.reads()]
    donors = [open_donor(folder, bench.base) for folder in folders]
    for folder in folders:
        require_same_vocabulary(bench.base.path, folder)
    form = recipe.curvature_form()
    curvature = Curvature(bench.curvature, form) if form else None
    located = recipe.located_donors()
    importance = Importance(bench.importance, located) if located else None
    inputs = [bench.base.path, *folders, *([bench.curvature] if form else []), *([bench.importance] if located else [])]
    return Opened(Ingredients(bench.base, donors, recipe, curvature, importance), inputs)
