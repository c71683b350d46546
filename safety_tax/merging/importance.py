"""Which weights matter to a donor's task, as stage `importance` leaves it, read one tensor at a time."""

from collections.abc import Iterable
from pathlib import Path

from safety_tax.core.arrays import Float32
from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint


class Importance:
    """Scores of the weights of a model's linear layers, by donor."""

    def __init__(self, folder: Path, donors: Iterable[str]) -> None:
        """Raises PipelineError when a donor was not located."""
        for donor in donors:
            if not (folder / donor).is_dir():
                raise PipelineError(
                    f"Expected the importance of donor {donor!r} in {folder}, found none; add it to importance.donors "
                    "in params.yaml and run `dvc repro`."
                )
        self._scores = {donor: Checkpoint(folder / donor) for donor in donors}

    def score(self, donor: str, name: str) -> Float32 | None:
        """Of every entry of a weight: the share of the tensor's entries that are no more important, in (0, 1].

        The lower one of two: to the base, and to the donor. None for a tensor that was not located.
        """
        scores = self._scores[donor]
        found: Float32 | None = scores.read(name) if name in scores else None
        return found
