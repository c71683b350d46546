"""Base + donors + a recipe -> `models/merged/<model>/<recipe>/`.  `python -m stages.merge MODEL RECIPE`

A recipe that names models itself (`given`, `mergekit`) fetches them, and each must fit the base as a donor must. One
that is not for the model leaves a note in place of a merge.

Streams: tensors from memory maps, one a processor but together hardly larger than the largest one, arithmetic in
float32, cast once, written at once, into files that are laid out as the base's. Whole files wait in `runs/merge/` until
the last one is there; a killed merge goes on after its last whole file.
"""

import argparse
import shutil
from typing import Any

from safety_tax.core.cells import leave_empty
from safety_tax.core.console import run_stage, say
from safety_tax.core.errors import PipelineError
from safety_tax.core.files import write_json
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.core.workspace import BASES, CURVATURE, DONORS, IMPORTANCE, MERGED, RUNS
from safety_tax.donors.checks import describe, require_unchanged
from safety_tax.merging.bench import Bench
from safety_tax.merging.merge import Merge, copy_companions, merge
from safety_tax.merging.opening import open_merge
from safety_tax.merging.recipe import Recipe
from safety_tax.merging.resume import WorkFolder, fingerprint
from safety_tax.params import load_params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("recipe")
    arguments = parser.parse_args()
    params = load_params()
    recipe, output = params.recipe(arguments.recipe), MERGED / arguments.model / arguments.recipe
    if not recipe.is_for(arguments.model):
        leave_empty(f"merge: {arguments.model} {arguments.recipe}", output)
        return
    base_folder, runs = BASES / arguments.model, RUNS / "merge" / arguments.model
    scratch = runs / f"{arguments.recipe}.sources"
    fetched = recipe.sources(arguments.model, params.model(arguments.model).source)
    say(f"merge: {arguments.model} {arguments.recipe}, {recipe.method} of {', '.join([*recipe.reads(), *fetched])}")
    bench = Bench(
        arguments.model,
        arguments.recipe,
        Checkpoint(base_folder, "model*.safetensors"),
        DONORS / arguments.model,
        CURVATURE / arguments.model,
        IMPORTANCE / arguments.model,
        fetched,
        scratch,
    )
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        opened = open_merge(recipe, bench)
        work = WorkFolder(runs / arguments.recipe, fingerprint({"recipe": recipe.settings()}, opened.inputs))
        moved = make(opened.merge, recipe, work)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    work.move_to(output)
    say(f"merge: {arguments.model} {arguments.recipe}, weights moved by {moved['relative_change']:.2%} of their norm")


def make(merging: Merge, recipe: Recipe, work: WorkFolder) -> dict[str, Any]:
    """Write the merged model and `merge.json` into the work folder; return how far the weights moved."""
    base, name = merging.base.path, work.folder.name
    try:
        moved = merge(merging, work)
        copy_companions(base, work.model)
        before, after = describe(base), describe(work.model)
        require_unchanged(before, after, name)
        checks = {"before": before, "after": after}
        write_json(work.model / "merge.json", {"recipe": recipe.settings(), **moved, "checks": checks})
    except PipelineError:
        work.discard()
        raise
    return moved


if __name__ == "__main__":
    run_stage(main)
