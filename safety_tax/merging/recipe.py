"""What recipes of all merge methods have in common; each method is a type of its own in `methods/`.

Names, parameters and defaults are mergekit's where it has the method (its `lambda` is `scale` here); where a
default differs, the docstring says so. δᵢ is donor i's task vector, wᵢ its weight, W0 the base. Every method
works tensor by tensor and draws its random numbers by seed, donor and tensor name. Donors are taken by name. So
neither the order of the donors, which DVC does not see, nor that of the tensors nor the sharding changes a result.
"""

import re
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from safety_tax.core.arrays import Float32
from safety_tax.core.tensor_files import Tensor
from safety_tax.merging.bench import Bench
from safety_tax.merging.updates import Target, Update, weighted_sum
from safety_tax.settings.section import ForModels
from safety_tax.settings.sources import FolderSource, HubSource, Source

Density = Annotated[float, Field(gt=0, le=1)]
# Beyond it is a slip of the finger.
Scale = Annotated[float, Field(ge=-1e3, le=1e3)]
LAYERS = re.compile(r"(\d+)(?:(-)(\d+)?)?")
REST = "rest"


class LayerRange(NamedTuple):
    """Layers first to last, both counted in; `last` is None for "to the end"."""

    first: int
    last: int | None

    def holds(self, layer: int) -> bool:
        """Whether the layer is one of them."""
        return self.first <= layer and (self.last is None or layer <= self.last)


def layer_range(text: str) -> LayerRange:
    """`"7"`, `"0-5"` or `"6-"`. Raises ValueError for anything else."""
    found = LAYERS.fullmatch(text)
    if not found:
        raise ValueError(f"unknown layer range {text!r}; write '7', '0-5', '6-' or '{REST}'")
    first = int(found[1])
    last = int(found[3]) if found[3] else None if found[2] else first
    if last is not None and last < first:
        raise ValueError(f"layer range {text!r} ends before it begins; write '{last}-{first}'")
    return LayerRange(first, last)


Weight = float | dict[str, float]
"""One number, or one a layer range; `rest` is every tensor that no range holds (0 where it is not given)."""


def weight_at(weight: Weight, layer: int | None) -> float:
    """A donor's weight at one layer; None is a tensor outside the layers (embeddings, last norm, head)."""
    if not isinstance(weight, dict):
        return weight
    if layer is not None:
        for text, value in weight.items():
            if text != REST and layer_range(text).holds(layer):
                return value
    return weight.get(REST, 0.0)


class Recipe(ForModels):
    """An entry of `recipes`: a method, and what it works on."""

    dial: ClassVar[str | None] = None
    """The number along which recipes that are equal otherwise form a family."""
    remedy: ClassVar[str] = "raise its weights, scale or density in params.yaml"
    """What to do when nothing was changed."""
    method: str

    @abstractmethod
    def reads(self) -> list[str]:
        """The donors that it opens, by name, sorted."""

    def sources(self, model: str, base: Source) -> dict[str, HubSource | FolderSource]:
        """What it fetches itself for one model of the catalogue, beside the donors, by a name for people.

        `base` is where that model comes from. Raises ValueError when the recipe does not say where something is.
        """
        return {}

    def held(self) -> int:
        """How many models' tensors of one name it holds at once, beside the base's."""
        return len(self.reads())

    def settings(self) -> dict[str, Any]:
        """All that decides its result, beside the models themselves."""
        return self.model_dump(exclude={"models"})

    def curvature_form(self) -> Literal["kfac", "diagonal"] | None:
        """The form of curvature that the recipe reads, if it reads one."""
        return None

    def located_donors(self) -> list[str]:
        """The donors whose importance it reads."""
        return []


class DonorRecipe(Recipe):
    """A recipe of donors with their weights: the base plus what it makes of their task vectors."""

    dial: ClassVar[str | None] = "scale"
    donors: dict[str, Weight]

    @abstractmethod
    def merge(self, updates: list[Update], target: Target) -> Float32:
        """What is added to the base's tensor, from the donors' task vectors of it, which stay as they are."""

    def reads(self) -> list[str]:
        """Those that it weighs, and those that it only looks at."""
        return list(self.donors)

    def changes(self, updates: list[Update], target: Target) -> bool:
        """Whether it changes this tensor at all: where no donor has a weight and a task vector, there is nothing."""
        return bool(updates)

    @field_validator("donors")
    @classmethod
    def _some_weight_by_name(cls, donors: dict[str, Weight]) -> dict[str, Weight]:
        if not donors:
            raise ValueError("a recipe needs at least one donor")
        values = []
        for weight in donors.values():
            values += list(weight.values()) if isinstance(weight, dict) else [weight]
            ranges = [layer_range(text) for text in weight if text != REST] if isinstance(weight, dict) else []
            for place, one in enumerate(ranges):
                for other in ranges[:place]:
                    if one.holds(other.first) or other.holds(one.first):
                        raise ValueError(f"layer ranges overlap in {weight}; give each layer one weight")
        if any(not 0 <= value <= 1e3 for value in values) or not sum(values) > 0:
            raise ValueError("no donor's weight may be negative or above 1000, and their total must be above 0")
        return dict(sorted(donors.items()))


class SafetyRecipe(DonorRecipe):
    """A recipe that changes the update of some donors and adds that of the others whole."""

    dial: ClassVar[str | None] = "alpha"
    safety: Annotated[list[str], Field(min_length=1)]
    """The donors whose update is changed; the other donors are added whole."""
    alpha: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """What the changed update is multiplied by."""

    @model_validator(mode="after")
    def _safety_donors(self) -> "SafetyRecipe":
        for name in self.safety:
            if name not in self.donors:
                raise ValueError(f"safety names {name!r}, which is none of its donors: {', '.join(self.donors)}")
        return self

    def add_changed(self, updates: list[Update], change: Callable[[Update], Float32] | None) -> Float32:
        """Sum of the updates, with `change` applied to those of the safety donors; None is plain addition."""

        def changed(update: Update) -> Update:
            if update.donor not in self.safety:
                return update
            delta = change(update) if change else update.delta
            return update._replace(weight=update.weight * self.alpha, delta=delta)

        return weighted_sum([changed(update) for update in updates])


@dataclass(frozen=True)
class Whole:
    """Whole tensors in place of task vectors, by the base's names and in its shapes."""

    tensor: Callable[[str], Tensor]
    """One of them, of any float type. Raises PipelineError when it cannot be had."""
    inputs: list[Path]
    """The files, or folders, that they come from."""


class WholeRecipe(Recipe):
    """A recipe whose result is whole tensors, not the base and something added to it."""

    @abstractmethod
    def whole(self, bench: Bench) -> Whole:
        """Its tensors. Raises PipelineError when a model cannot be had or does not fit the base."""
