"""Base + donors + a recipe -> `models/merged/<model>/<recipe>/`.  `python -m stages.merge MODEL RECIPE`

Streams: one tensor at a time from memory maps, arithmetic in float32, cast once, written at once.
"""

import argparse
import importlib
import shutil
from pathlib import Path

import numpy as np

from stages.lib.console import progress_bar, run_stage, say
from stages.lib.errors import PipelineError
from stages.lib.files import folder_written_atomically, write_json
from stages.lib.merging.task_vectors import Adapter
from stages.lib.params import AnyRecipe, load_params
from stages.lib.tensor_files import Checkpoint, Tensor, require_finite, write_checkpoint

# What a model folder has beside its weights; every variant has the base's.
COMPANIONS = ("*.json", "*.jinja", "*.model", "*.txt")


def merge(
    base: Checkpoint, donors: list[Adapter], recipe: AnyRecipe, dtype: np.dtype[np.generic], folder: Path
) -> dict[str, float]:
    """Write the merged weights into `folder`; return how far they moved.

    Raises PipelineError when a weight is not finite, or the result equals the base or the whole of one donor
    of several.
    """
    method = importlib.import_module(f"stages.lib.merging.{recipe.method}")
    weights = list(recipe.donors.values())
    squares = {"base": 0.0, "change": 0.0}
    from_donor = dict.fromkeys((donor.name for donor in donors), 0.0)
    names = base.names()

    with progress_bar() as progress:
        task = progress.add_task("merging", total=len(names), unit="tensors")

        def make(name: str) -> Tensor:
            stored = base.read(name)
            require_finite(stored, name, base.path)
            weight = np.asarray(stored, np.float32)
            # A donor that leaves a tensor alone says nothing about it: it takes no part there.
            present = [place for place, donor in enumerate(donors) if name in donor.names()]
            result = weight
            deltas = [donors[place].delta(name) for place in present]
            if deltas:
                change = method.merge(deltas, [weights[place] for place in present], recipe, name)
                result = weight + change
                squares["change"] += float(np.vdot(change, change))
                for place, delta in zip(present, deltas, strict=True):
                    off = change - delta
                    from_donor[donors[place].name] += float(np.vdot(off, off))
            squares["base"] += float(np.vdot(weight, weight))
            cast = result.astype(dtype)
            require_finite(cast, name, folder)
            progress.advance(task)
            return cast

        write_checkpoint(folder, {name: base.shape(name) for name in names}, dtype, make)

    if squares["change"] == 0.0:
        raise PipelineError(
            f"Expected the recipe to change the base, found the merged weights equal to it in {folder.name}; "
            "raise its weights, scale or density in params.yaml."
        )
    for donor, distance in from_donor.items():
        if len(donors) > 1 and distance == 0.0:
            raise PipelineError(
                f"Expected a merge of {len(donors)} donors, found the result equal to donor {donor!r} alone; "
                "check the recipe's weights in params.yaml."
            )
    return {"change_norm": squares["change"] ** 0.5, "relative_change": (squares["change"] / squares["base"]) ** 0.5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("recipe")
    arguments = parser.parse_args()
    params = load_params()
    recipe = params.recipe(arguments.recipe)
    dtype = np.dtype(params.model(arguments.model).dtype)
    base_folder = Path("models/base") / arguments.model
    say(f"merge: {arguments.model} {arguments.recipe}, {recipe.method} of {', '.join(recipe.donors)}")
    base = Checkpoint(base_folder)
    donors = [Adapter(Path("models/donors") / arguments.model / name, base) for name in recipe.donors]
    with folder_written_atomically(Path("models/merged") / arguments.model / arguments.recipe) as folder:
        for pattern in COMPANIONS:
            for file in base_folder.glob(pattern):
                if not file.name.endswith(".safetensors.index.json"):
                    shutil.copyfile(file, folder / file.name)
        moved = merge(base, donors, recipe, dtype, folder)
        write_json(folder / "merge.json", {"recipe": recipe.model_dump(), **moved})
    say(f"merge: {arguments.model} {arguments.recipe}, weights moved by {moved['relative_change']:.2%} of their norm")


if __name__ == "__main__":
    run_stage(main)
