"""Donors, one tensor at a time: as task vectors, how each differs from the base in float32, or whole."""

from pathlib import Path
from typing import Protocol

from safety_tax.core.arrays import Float32
from safety_tax.core.errors import PipelineError, how_to_have
from safety_tax.core.tensor_files import Checkpoint, Tensor
from safety_tax.donors.adapter import ADAPTER_CONFIG, Adapter
from safety_tax.donors.adapter_settings import merged_by_peft
from safety_tax.donors.full_checkpoint import FullCheckpoint

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


class Donor(Protocol):
    """A donor of a base."""

    name: str

    def names(self) -> list[str]:
        """Names of the base's tensors that the donor may change, sorted."""

    def delta(self, name: str) -> Float32:
        """Task vector of one tensor, of its shape. Raises PipelineError on NaN or infinity."""

    def whole(self, name: str) -> Tensor:
        """One of the base's tensors as the donor has it, in the base's shape and any float type."""


def open_donor(folder: Path, base: Checkpoint) -> Donor:
    """The adapter or the full checkpoint in `folder`. Raises PipelineError when it does not fit the base."""
    if (folder / ADAPTER_CONFIG).exists():
        _require_safetensors(folder, "adapter_model*.safetensors")
        if (settings := merged_by_peft(folder / ADAPTER_CONFIG)) is not None:
            from safety_tax.donors.peft_adapter import PeftAdapter  # torch and PEFT, for these alone

            return PeftAdapter(folder, base, settings)
        return Adapter(folder, base)
    if (folder / "config.json").exists():
        _require_safetensors(folder, "model*.safetensors")
        return FullCheckpoint(folder, base)
    raise PipelineError(
        f"Expected a donor in {folder} (an adapter with {ADAPTER_CONFIG}, or a model with config.json), found neither; "
        f"{how_to_have()}, or put the donor there."
    )


def _require_safetensors(folder: Path, pattern: str) -> None:
    if any(folder.glob(pattern)):
        return
    pickles = sorted(file.name for kind in PICKLES for file in folder.glob(kind))
    found = f"pickled {pickles[0]}, which runs code when it is read" if pickles else "none"
    raise PipelineError(
        f"Expected safetensors weights ({pattern}) in {folder}, found {found}; save the donor as safetensors."
    )
