"""Base + donors + a recipe -> `models/merged/<model>/<recipe>/`.  `python -m stages.merge MODEL RECIPE`

Streams: tensors from memory maps, one a processor but together hardly larger than the largest one, arithmetic in
float32, cast once, written at once, into files that are laid out as the base's. Whole files wait in `runs/merge/` until
the last one is there; a killed merge goes on after its last whole file.
"""

import argparse

from safety_tax.core.console import run_stage, say
from safety_tax.core.errors import PipelineError
from safety_tax.core.files import write_json
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.core.workspace import BASES, CURVATURE, DONORS, MERGED, RUNS
from safety_tax.donors.checks import describe, require_same_vocabulary, require_unchanged
from safety_tax.donors.opening import open_donor
from safety_tax.merging.curvature import Curvature
from safety_tax.merging.merge import Ingredients, copy_companions, merge, require_layers
from safety_tax.merging.resume import WorkFolder, fingerprint
from safety_tax.params import load_params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("recipe")
    arguments = parser.parse_args()
    params = load_params()
    recipe = params.recipe(arguments.recipe)
    base_folder = BASES / arguments.model
    curvature_folder = CURVATURE / arguments.model
    say(f"merge: {arguments.model} {arguments.recipe}, {recipe.method} of {', '.join(recipe.donors)}")
    base = Checkpoint(base_folder, "model*.safetensors")
    require_layers(recipe, base)
    donor_folders = [DONORS / arguments.model / name for name in recipe.donors]
    donors = [open_donor(folder, base) for folder in donor_folders]
    for folder in donor_folders:
        require_same_vocabulary(base_folder, folder)
    form = recipe.curvature_form()
    ingredients = Ingredients(base, donors, recipe, Curvature(curvature_folder, form) if form else None)
    settings = {"recipe": recipe.model_dump()}
    inputs = [base_folder, *donor_folders, *([curvature_folder] if form else [])]
    work = WorkFolder(RUNS / "merge" / arguments.model / arguments.recipe, fingerprint(settings, inputs))
    try:
        moved = merge(ingredients, work)
        copy_companions(base_folder, work.model)
        before, after = describe(base_folder), describe(work.model)
        require_unchanged(before, after, arguments.recipe)
        checks = {"before": before, "after": after}
        write_json(work.model / "merge.json", {"recipe": recipe.model_dump(), **moved, "checks": checks})
    except PipelineError:
        work.discard()
        raise
    work.move_to(MERGED / arguments.model / arguments.recipe)
    say(f"merge: {arguments.model} {arguments.recipe}, weights moved by {moved['relative_change']:.2%} of their norm")


if __name__ == "__main__":
    run_stage(main)
