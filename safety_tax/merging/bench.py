"""Where a merge is made."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safety_tax.core.tensor_files import Checkpoint
from safety_tax.settings.sources import FolderSource, HubSource


@dataclass(frozen=True)
class Bench:
    """What lies at hand for one recipe of one model."""

    model: str
    """Its name in `catalog`."""
    recipe: str
    """Its name in `recipes`."""
    base: Checkpoint
    donors: Path
    """The folder that holds one for each donor of the model."""
    curvature: Path
    importance: Path
    sources: Mapping[str, HubSource | FolderSource]
    """What the recipe fetches itself."""
    scratch: Path
    """For what a recipe fetches itself; not there yet."""
