"""A merge, tensor by tensor: the base plus what the recipe makes of the donors' task vectors, or whole tensors."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from safety_tax.core.arrays import blocks
from safety_tax.core.errors import PipelineError
from safety_tax.core.processors import usable_cores
from safety_tax.core.progress import progress_bar
from safety_tax.core.tensor_files import Checkpoint, Tensor, require_finite, write_alike
from safety_tax.donors.opening import Donor
from safety_tax.donors.tensor_names import layer_of
from safety_tax.merging.ahead import in_order
from safety_tax.merging.curvature import Curvature
from safety_tax.merging.importance import Importance
from safety_tax.merging.measure import Sums, add, dot, measure, new_sums, require_a_merge, summary, unlike
from safety_tax.merging.recipe import REST, DonorRecipe, Recipe, layer_range, weight_at
from safety_tax.merging.resume import WorkFolder
from safety_tax.merging.updates import Target, Update

# What a model folder has beside its weights; every variant has the base's.
COMPANIONS = ("*.json", "*.jinja", "*.model", "*.txt")
BESIDE = 1 << 23  # elements of the tensors that are worked on beside the largest one


class Merge(Protocol):
    """A merge that can be made: what each of the base's tensors becomes."""

    @property
    def base(self) -> Checkpoint:
        """What is merged into."""

    def tensor(self, name: str) -> tuple[Tensor, Sums]:
        """One merged tensor in the base's type, and what it adds to the measurements.

        Raises PipelineError when a weight is not finite.
        """

    def donor_names(self) -> list[str]:
        """The donors that it is measured against."""

    def remedy(self) -> str:
        """What a person does when nothing was changed."""


@dataclass(frozen=True)
class Ingredients:
    """The merge that a recipe makes of donors' task vectors."""

    base: Checkpoint
    donors: list[Donor]
    """All that the recipe reads."""
    recipe: DonorRecipe
    curvature: Curvature | None = None
    importance: Importance | None = None

    def tensor(self, name: str) -> tuple[Tensor, Sums]:
        """See `Merge`."""
        return merge_tensor(self, name)

    def donor_names(self) -> list[str]:
        """See `Merge`."""
        return [donor.name for donor in self.weighed()]

    def weighed(self) -> list[Donor]:
        """Those that are merged; others are only looked at."""
        return [donor for donor in self.donors if donor.name in self.recipe.donors]

    def remedy(self) -> str:
        """See `Merge`."""
        return self.recipe.remedy


@dataclass(frozen=True)
class WholeTensors:
    """A merge whose tensors are taken as they are."""

    base: Checkpoint
    made: Callable[[str], Tensor]
    recipe: Recipe

    def tensor(self, name: str) -> tuple[Tensor, Sums]:
        """See `Merge`."""
        stored = self.base.read(name)
        require_finite(stored, name, self.base.path)
        whole = self.made(name)
        sums = new_sums()
        merged = np.empty(stored.size, stored.dtype)
        before, after = stored.reshape(-1), whole.reshape(-1)
        for block in blocks(stored.size):
            weight = before[block].astype(np.float32)
            with np.errstate(over="ignore"):  # what float16 cannot hold is infinite, and refused below
                merged[block] = after[block].astype(stored.dtype, copy=False)
            wide = weight.astype(np.float64)
            moved = after[block].astype(np.float64) - wide
            sums["base"] += dot(wide, wide)
            sums["change"] += dot(moved, moved)
            sums["moved"] += int(np.count_nonzero(merged[block] != before[block]))
        sums["entries"] += stored.size
        require_finite(merged, name, Path("the merged model"))
        return merged.reshape(stored.shape), sums

    def donor_names(self) -> list[str]:
        """See `Merge`: it is measured against the base alone."""
        return []

    def remedy(self) -> str:
        """See `Merge`."""
        return self.recipe.remedy


def require_layers(recipe: DonorRecipe, base: Checkpoint) -> None:
    """Raises PipelineError when a layer range of the recipe lies outside of the base."""
    layers = {layer for layer in map(layer_of, base.names()) if layer is not None}
    for donor, weight in recipe.donors.items():
        for text in weight if isinstance(weight, dict) else ():
            if text == REST:
                continue
            first, last = layer_range(text)
            if max(first, last or 0) not in layers:
                raise PipelineError(
                    f"Expected the layers {text!r} of donor {donor!r} to be in {base.path}, found layers 0 to "
                    f"{max(layers, default=0)}; correct the range in params.yaml."
                )


def merge_tensor(ingredients: Ingredients, name: str) -> tuple[Tensor, Sums]:
    """One merged tensor in the base's type, and what it adds to the measurements.

    Raises PipelineError when a weight is not finite.
    """
    base, recipe, dtype = ingredients.base, ingredients.recipe, ingredients.base.dtype(name)
    stored = base.read(name)
    require_finite(stored, name, base.path)
    weighed = ingredients.weighed()
    weights = [weight_at(recipe.donors[donor.name], layer_of(name)) for donor in weighed]
    # A donor that leaves a tensor alone says nothing about it: it takes no part there.
    deltas = {donor.name: donor.delta(name) for donor in ingredients.donors if name in donor.names()}
    updates = [
        Update(donor.name, place, weight, deltas[donor.name])
        for place, (donor, weight) in enumerate(zip(weighed, weights, strict=True))
        if donor.name in deltas and weight
    ]
    names = ingredients.donor_names()
    sums = new_sums()
    change = None
    target = Target(name, sum(weights), ingredients.curvature, deltas, ingredients.importance)
    if recipe.changes(updates, target):
        change = recipe.merge(updates, target)
        sums = measure(change, updates)
        for key, count in target.notes.items():
            sums[key] += count
    if deltas and len(names) > 1:
        add(sums, unlike(stored, change, deltas, names, dtype))
    del updates, deltas, target  # a tensor each, which need not lie beside the merged one
    merged = np.empty(stored.size, dtype)
    flat = stored.reshape(-1)
    for block in blocks(stored.size):
        weight = flat[block].astype(np.float32)
        wide = weight.astype(np.float64)
        sums["base"] += dot(wide, wide)
        merged[block] = weight if change is None else weight + change.reshape(-1)[block]
        sums["moved"] += int(np.count_nonzero(merged[block] != weight.astype(dtype, copy=False)))
    sums["entries"] += stored.size
    require_finite(merged, name, Path("the merged model"))
    return merged.reshape(stored.shape), sums


def merge(made: Merge, work: WorkFolder) -> dict[str, Any]:
    """Write the merged weights into the work folder, file by file; return how far and where they moved.

    Every tensor has its type and place in the base's files, so that the base's ONNX graph reads them. Raises
    PipelineError when a weight is not finite, or the result equals the base or the whole of one donor of several.
    """
    base = made.base
    most = max(map(base.size, base.names())) + BESIDE
    total = new_sums()
    workers = usable_cores()
    with progress_bar() as progress:
        task = progress.add_task("merging", total=len(base.names()), unit="tensors")
        for file in base.files:
            sums, names = work.sums(file.name), base.in_file(file)
            if sums is None:
                sums = new_sums()
                sizes = {name: base.size(name) for name in names}
                with work.write(file.name) as path, closing(in_order(made.tensor, sizes, most, workers)) as results:

                    def make(name: str, sums: Sums = sums, results: Iterator[tuple[Tensor, Sums]] = results) -> Tensor:
                        merged, added = next(results)  # of that name: both go through `names` in order
                        add(sums, added)
                        progress.advance(task)
                        return merged

                    write_alike(file, base, make, path)
                work.finish_shard(file.name, sums)
            else:
                progress.take_up(task, len(names))
            add(total, sums)
    donors = made.donor_names()
    require_a_merge(total, donors, work.folder.name, made.remedy())
    return summary(total, donors)


def copy_companions(base: Path, folder: Path) -> None:
    """Configuration, tokenizer and the index of shards are the base's."""
    for pattern in COMPANIONS:
        for file in base.glob(pattern):
            shutil.copyfile(file, folder / file.name)
