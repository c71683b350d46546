"""Where bytes come from."""

from typing import Annotated, Literal

from pydantic import (
    Field,
)

from safety_tax.settings.section import Commit, Count, Inside, OneOfEach, Repository, Section, Seed, Sha256


class WheelSource(Section):
    """A file or folder inside a wheel on the package index, used as data and never imported."""

    kind: Literal["wheel"]
    requirement: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.]+$")]
    sha256: Sha256
    """Digest of the wheel."""
    member: Inside
    """Path inside the wheel; for a model, of a GGUF file."""


class HubSource(Section):
    """A repository on the Hugging Face Hub at one commit."""

    kind: Literal["hub"]
    repository: Repository
    commit: Commit


class HubDatasetSource(Section):
    """Named files of a dataset on the Hugging Face Hub at one commit."""

    kind: Literal["hub_dataset"]
    repository: Repository
    commit: Commit
    files: Annotated[list[Inside], Field(min_length=1), OneOfEach]
    """Paths inside the repository: only these are downloaded."""


class FolderSource(Section):
    """A folder on this machine, in the Hub's layout (a model) or with the project's own rows (a dataset)."""

    kind: Literal["folder"]
    path: Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]


class GeneratedSource(Section):
    """Items that a seeded generator writes on this machine, the same on every one."""

    kind: Literal["generated"]
    seed: Seed
    count: Count
    """Items, the same first ones for a bigger count."""


Source = Annotated[WheelSource | HubSource | FolderSource, Field(discriminator="kind")]
DatasetSource = Annotated[WheelSource | HubDatasetSource | FolderSource | GeneratedSource, Field(discriminator="kind")]
