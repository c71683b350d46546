"""The base's curvature as stage `curvature` leaves it, read one tensor at a time."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint


def dimension(k: float, columns: int) -> int:
    """How many directions the share `k` of an input's dimensions is: at least one."""
    return max(1, int(k * columns))


class Curvature:
    """One form of curvature (`kfac` or `diagonal`) of a model's linear layers."""

    def __init__(self, folder: Path, form: str) -> None:
        """Raises PipelineError when the stage did not collect that form."""
        if not (folder / form).is_dir():
            raise PipelineError(
                f"Expected curvature of the form {form!r} in {folder}, found none; "
                f"add {form} to curvature.forms in params.yaml and run `dvc repro`."
            )
        self._tensors = Checkpoint(folder / form)
        self._inputs: dict[str, str] = json.loads((folder / "curvature.json").read_text(encoding="utf-8"))["inputs"]

    def subspace(self, name: str, k: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(VᵀM, Vᵀ), each [directions, in]: the top share `k` of a weight's generalised eigenvectors."""
        source = self._inputs.get(name, name)
        duals, directions = (self._read(f"{source}.{part}") for part in ("duals", "directions"))
        count = dimension(k, directions.shape[1])
        return duals[:count], directions[:count]

    def ratio(self, name: str) -> NDArray[np.float32]:
        """F_h / (F_b + ε) of every entry of a weight."""
        return self._read(f"{name}.ratio")

    def fisher(self, name: str) -> NDArray[np.float32]:
        """F_h of every entry of a weight."""
        return self._read(f"{name}.harmful")

    def _read(self, key: str) -> NDArray[Any]:
        if key not in self._tensors:
            raise PipelineError(
                f"Expected {key} in {self._tensors.path}, found none; delete that folder and run `dvc repro`."
            )
        return self._tensors.read(key)
