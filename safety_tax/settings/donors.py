"""Donors, tuned here or fetched."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from safety_tax.settings.section import (
    Batch,
    Count,
    CountOrNone,
    ForModels,
    OneOfEach,
    Positive,
    Section,
    Seed,
    entry_of,
)
from safety_tax.settings.sources import FolderSource, HubSource


class Donor(ForModels):
    """Tuning rows of one donor, by kind: refused, answered helpfully, answered correctly."""

    harmful: CountOrNone
    benign: CountOrNone
    choice: CountOrNone
    epochs: Annotated[float, Field(gt=0, le=1000)]

    @model_validator(mode="after")
    def _has_rows(self) -> "Donor":
        if self.harmful + self.benign + self.choice < 2:
            raise ValueError("a donor needs at least two tuning rows (harmful, benign or choice)")
        return self


DonorSource = Annotated[HubSource | FolderSource, Field(discriminator="kind")]


def _one_or_many(value: Any) -> str:
    return "one" if isinstance(value, HubSource | FolderSource) or "kind" in (value or ()) else "by_model"


SourceByModel = Annotated[
    Annotated[DonorSource, Tag("one")] | Annotated[dict[str, DonorSource], Tag("by_model")],
    Discriminator(_one_or_many),
]
"""Where a model is; for models of several sizes, by the model's name in `catalog`."""


def source_for(source: SourceByModel, model: str, what: str) -> HubSource | FolderSource:
    """The source for one model. Raises PipelineError when the entry does not say; `what` it is of, for a person."""
    return entry_of(source, "model", f"source of the {what}", model) if isinstance(source, dict) else source


def _tensors_stay_alike(keys: list[str]) -> list[str]:
    if fixed := {"model_type", "tie_word_embeddings"} & set(keys):
        raise ValueError(f"may_differ has {min(fixed)!r}, which decides what the tensors are")
    return keys


MayDiffer = Annotated[
    list[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]],
    AfterValidator(_tensors_stay_alike),
    Field(default_factory=list),
]
"""Keys of config.json in which a full checkpoint may be other than the base."""


class GivenDonor(ForModels):
    """A donor that is fetched, not tuned: an adapter as PEFT saves it, or a full checkpoint."""

    source: SourceByModel
    may_differ: MayDiffer

    def source_for(self, model: str) -> HubSource | FolderSource:
        """Where the donor of one model is. Raises PipelineError when the entry does not say."""
        return source_for(self.source, model, "donor")


def _tuned_or_given(value: Any) -> str:
    return "given" if isinstance(value, GivenDonor) or (isinstance(value, dict) and "source" in value) else "tuned"


AnyDonor = Annotated[
    Annotated[Donor, Tag("tuned")] | Annotated[GivenDonor, Tag("given")], Discriminator(_tuned_or_given)
]
DONOR_TAGS = ("tuned", "given", "one", "by_model")  # pydantic's names of the cases above, in no file


class Tune(Section):
    """Stage `tune`."""

    seed: Seed
    rank: Batch
    alpha: Batch
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    batch_size: Batch
    accumulation: Batch
    max_tokens: Count
    held_out: Annotated[float, Field(gt=0, lt=1)]
    precision: Literal["bf16", "float32", "auto"]
    base_weights: Literal["auto", "float32", "bfloat16"]
    gradient_checkpointing: bool
    save_steps: Count


class Curvature(ForModels):
    """Stage `curvature`."""

    forms: Annotated[list[Literal["kfac", "diagonal"]], OneOfEach]
    harmful: Count
    benign: Count
    max_tokens: Count
    epsilon: Positive


class Importance(ForModels):
    """Stage `importance`."""

    donors: dict[str, Literal["harmful", "benign", "choice"]]
    """The donors that are located, each with the kind of tuning rows of its task."""
    rows: Count
    max_tokens: Count
