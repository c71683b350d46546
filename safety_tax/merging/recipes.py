"""Recipes, one type a merge method, told apart by `method`.

Names, parameters and defaults are mergekit's where it has the method (its `lambda` is `scale` here); where a
default differs, the docstring says so. δᵢ is donor i's task vector, wᵢ its weight, W0 the base. Every method
works tensor by tensor and draws its random numbers by seed, donor and tensor name. Donors are taken by name. So
neither the order of the donors, which DVC does not see, nor that of the tensors nor the sharding changes a result.
"""

import re
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Density = Annotated[float, Field(gt=0, le=1)]
# Beyond these is a slip of the finger; NumPy takes no other seed.
Scale = Annotated[float, Field(ge=-1e3, le=1e3)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
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


class Recipe(BaseModel):
    """What every recipe has: donors with their weights."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    dial: ClassVar[str | None] = "scale"
    """The number along which recipes that are equal otherwise form a family."""
    method: str
    donors: dict[str, Weight]

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


class Linear(Recipe):
    """W0 + Σ wᵢ δᵢ / Σ wᵢ, which is the weighted mean of the donors' weights (Wortsman et al. 2022, arXiv:2203.05482).

    mergekit's `normalize: false` would scale the base, too, and is not offered.
    """

    dial: ClassVar[str | None] = None
    method: Literal["linear"]


class Slerp(Recipe):
    """W0 + slerp(t; w₁ δ₁, w₂ δ₂), along the great circle between two task vectors (Shoemake 1985).

    δ₁, where `t` is 0, is that of the donor whose name comes first in the alphabet, however they are listed.

    mergekit interpolates whole weights. LoRA donors' weights are all but parallel (cosine above .999), and slerp of
    them is linear; between the task vectors there is an angle. Below an angle of arccos .9995, linear as in mergekit.
    """

    dial: ClassVar[str | None] = "t"
    method: Literal["slerp"]
    t: Annotated[float, Field(ge=0, le=1)]

    @model_validator(mode="after")
    def _two_donors(self) -> "Slerp":
        if len(self.donors) != 2:
            raise ValueError(f"slerp goes between two donors, and has {len(self.donors)}")
        return self


class TaskArithmetic(Recipe):
    """W0 + scale · Σ wᵢ δᵢ (Ilharco et al. 2022, arXiv:2212.04089)."""

    method: Literal["task_arithmetic"]
    scale: Scale = 1.0


class Ties(Recipe):
    """W0 + scale · (mean of the trimmed δᵢ that agree with the elected sign) (Yadav et al. 2023, arXiv:2306.01708).

    Trimmed to the `density` share of largest magnitude in each tensor; `normalize: false` sums instead of averaging.
    """

    method: Literal["ties"]
    scale: Scale = 1.0
    density: Density = 1.0
    normalize: bool = True


class DareLinear(Recipe):
    """W0 + scale · Σ wᵢ mᵢ δᵢ / density, mᵢ ~ Bernoulli(density) (Yu et al. 2023, arXiv:2311.03099).

    The paper's 1/density keeps the mean over seeds; mergekit rescales to the L1 norm from before the drop.
    """

    method: Literal["dare_linear"]
    scale: Scale = 1.0
    density: Density = 1.0
    seed: Seed = 0


class DareTies(Recipe):
    """As `dare_linear`, then the sign election of `ties`.

    Averages those that agree, as TIES does; mergekit's default is `normalize: false`, which sums them.
    """

    method: Literal["dare_ties"]
    scale: Scale = 1.0
    density: Density = 1.0
    normalize: bool = True
    seed: Seed = 0


class Breadcrumbs(Recipe):
    """W0 + scale · Σ wᵢ mᵢ δᵢ: mᵢ leaves out outliers and small entries (Davari & Belilovsky 2023, arXiv:2312.06795).

    In each tensor the share `gamma` of largest magnitude goes, and of the smallest as many as leave `density`.
    """

    method: Literal["breadcrumbs"]
    scale: Scale = 1.0
    density: Density = 1.0
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.01


class Della(Recipe):
    """W0 + scale · elect(wᵢ mᵢ δᵢ / pᵢ), mᵢ ~ Bernoulli(pᵢ) (Deep et al. 2024, arXiv:2406.11617).

    Within a row, pᵢ rises with the rank of |δᵢ| from density − epsilon to density + epsilon. The paper's 1/pᵢ keeps
    the mean over seeds; mergekit rescales to the L1 norm from before the drop.
    """

    method: Literal["della"]
    scale: Scale = 1.0
    density: Density = 1.0
    epsilon: Annotated[float, Field(ge=0, lt=0.5)] = 0.15
    normalize: bool = True
    seed: Seed = 0

    @model_validator(mode="after")
    def _probabilities(self) -> "Della":
        if self.density < 1 and not self.epsilon < min(self.density, 1 - self.density):
            raise ValueError("density ± epsilon must lie inside (0, 1)")
        return self


class SafetyRecipe(Recipe):
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


class Sst(SafetyRecipe):
    """W0 + ΔU + alpha · P(ΔS): only the part of ΔS that acts where harmful inputs are strong and benign ones weak.

    `kfac`: in every linear layer solve C_h v = λ (C_b + εI) v, with C the second moments of its inputs; V is the top
    share `k` of the v. P projects the rows of ΔS onto span(V), orthogonally in M = C_b + εI: P(ΔS) = ΔS M V Vᵀ, with
    Vᵀ M V = I. tr(P(ΔS) M P(ΔS)ᵀ), the update's mean square on benign inputs, rises with k.
    `diagonal`: keep the share `k` of the entries with the largest F_h / (F_b + ε), F the diagonal empirical Fisher of
    response tokens, squared row by row of the data.
    k = 1 is plain addition. Below 1, what ΔS does outside the layers' linear weights is left out.
    """

    method: Literal["sst"]
    curvature: Literal["kfac", "diagonal"]
    k: Density


class Alignguard(SafetyRecipe):
    """W0 + ΔU + alpha · ΔS / (1 + damping · F̂): ΔS is damped where the base's curvature on refused rows is high.

    After AlignGuard-LoRA (Das et al. 2025, arXiv:2508.02079), whose training penalty λ‖F^½ ΔW‖² protects weights that
    alignment hangs on. Merging trains nothing: this is the closed-form minimum of ‖X − ΔS‖² + damping · ‖F̂^½ X‖², F̂ the
    harmful rows' diagonal Fisher over its mean in the tensor. Its eigen-decomposition of F and its collision
    terms are not taken over. Tensors without a Fisher (embeddings, norms) are not damped.
    """

    method: Literal["alignguard"]
    damping: Annotated[float, Field(ge=0, le=1e6)] = 1.0


class RandomMask(SafetyRecipe):
    """Control of `sst` (`diagonal`): keeps each entry of ΔS with probability k, chosen at random."""

    method: Literal["random_mask"]
    k: Density
    seed: Seed = 0


class RandomSubspace(SafetyRecipe):
    """Control of `sst` (`kfac`): projects the rows of ΔS onto a random subspace of the same dimension."""

    method: Literal["random_subspace"]
    k: Density
    seed: Seed = 0


AnyRecipe = Annotated[
    Linear
    | Slerp
    | TaskArithmetic
    | Ties
    | DareLinear
    | DareTies
    | Breadcrumbs
    | Della
    | Sst
    | Alignguard
    | RandomMask
    | RandomSubspace,
    Field(discriminator="method"),
]


def recipe_types() -> dict[str, type[Recipe]]:
    """Method -> its type."""
    union: Any = AnyRecipe
    return {cls.model_fields["method"].annotation.__args__[0]: cls for cls in union.__origin__.__args__}


def recipe_curvature(recipe: Recipe) -> Literal["kfac", "diagonal"] | None:
    """The form of curvature that a recipe reads, if it reads one."""
    if isinstance(recipe, Sst) and recipe.k < 1:
        return recipe.curvature
    return "diagonal" if isinstance(recipe, Alignguard) and recipe.damping else None
