"""What a section of `params.yaml` is, and the values that several have."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
)

from safety_tax.core.errors import PipelineError, did_you_mean
from safety_tax.core.workspace import PARAMS_FILE

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Share = Annotated[float, Field(ge=0, le=1)]
# The bounds keep out slips of the finger and what libraries behind a setting cannot take; no sane value is near them.
MOST = 2**31 - 1
Count = Annotated[int, Field(gt=0, le=MOST)]
CountOrNone = Annotated[int, Field(ge=0, le=MOST)]
Batch = Annotated[int, Field(gt=0, le=65_536)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""NumPy takes no other."""
Positive = Annotated[float, Field(gt=0, le=1e6)]
Price = Annotated[float, Field(ge=1e-6, le=1e6)]
Repository = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$")]


def _inside(path: str) -> str:
    """A path that stays in its folder on every system; raises ValueError otherwise."""
    odd = not path or path.startswith("/") or ".." in path.split("/") or any(character in path for character in "\\:\0")
    if odd:
        raise ValueError(f"expected a plain path inside its source, found {path!r}")
    return path


def _no_repeats(values: list[Any]) -> list[Any]:
    """The list; raises ValueError when an entry comes twice."""
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ValueError(f"{value!r} twice in a list; name it once")
    return values


Inside = Annotated[str, AfterValidator(_inside)]
OneOfEach = AfterValidator(_no_repeats)
Entry = TypeVar("Entry")


class Section(BaseModel):
    """A frozen mapping of `params.yaml`; an unknown key is an error, NaN and Infinity are."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ForModels(Section):
    """What may be for some models only."""

    models: Annotated[list[str], Field(min_length=1), OneOfEach] | None = None
    """Names in `catalog`; of every model when left out."""

    def is_for(self, model: str) -> bool:
        """Whether it is for that model."""
        return self.models is None or model in self.models


def entry_of(section: Mapping[str, Entry], what: str, where: str, name: str) -> Entry:
    """The entry of that name; raises PipelineError with the near matches when there is none."""
    if name not in section:
        raise PipelineError(
            f"Expected a {what} of `{where}` in {PARAMS_FILE}, found {name!r}; {did_you_mean(name, section)}"
        )
    return section[name]
