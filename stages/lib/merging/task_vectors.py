"""Donors as task vectors: how each differs from the base, one tensor at a time, in float32."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.lib.errors import PipelineError
from stages.lib.tensor_files import Checkpoint, require_finite

Float32 = NDArray[np.float32]


class Adapter:
    """A LoRA adapter as PEFT saves it: delta W = s · B · A (Hu et al. 2021, arXiv:2106.09685).

    s is alpha / r, or alpha / sqrt(r) for rsLoRA (Kalajdzievski 2023, arXiv:2312.03732).
    """

    def __init__(self, folder: Path, base: Checkpoint) -> None:
        """Raises PipelineError when the adapter is not plain LoRA, or does not fit the base."""
        self.name = folder.name
        try:
            config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise PipelineError(
                f"Expected an adapter in {folder}, found no adapter_config.json; run `dvc repro`."
            ) from None
        unusual = [key for key in ("use_dora", "fan_in_fan_out", "rank_pattern", "alpha_pattern") if config.get(key)]
        if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or unusual:
            raise PipelineError(f"Expected a plain LoRA adapter in {folder}, found {unusual or config['peft_type']}.")
        self.scale = config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])
        self._tensors = Checkpoint(folder)
        self._modules: dict[str, str] = {}
        for key in self._tensors.names():
            if key.endswith(".lora_A.weight"):
                module = key.removesuffix(".lora_A.weight")
                self._modules[module.removeprefix("base_model.model.") + ".weight"] = module
        self._check(folder, base)

    def _check(self, folder: Path, base: Checkpoint) -> None:
        expected = {f"{module}.lora_{side}.weight" for module in self._modules.values() for side in "AB"}
        strange = set(self._tensors.names()) - expected
        if strange or not self._modules:
            raise PipelineError(
                f"Expected pairs of LoRA matrices in {folder}, found {sorted(strange)[:1] or 'none'}; tune it again."
            )
        for name, module in self._modules.items():
            if name not in base.names():
                raise PipelineError(
                    f"Expected donor {self.name!r} to fit the base, found its target {name}, which {base.path} lacks; "
                    "the donor is of another architecture: tune it on this base."
                )
            (_, columns), (rows, _) = (self._tensors.shape(f"{module}.lora_{side}.weight") for side in "AB")
            if (rows, columns) != base.shape(name):
                raise PipelineError(
                    f"Expected donor {self.name!r} to have the shape {base.shape(name)} of the base at {name}, found "
                    f"{(rows, columns)}; the donor is of another architecture or vocabulary: tune it on this base."
                )

    def names(self) -> list[str]:
        """Names of the base's tensors that the donor changes, sorted."""
        return sorted(self._modules)

    def delta(self, name: str) -> Float32:
        """Task vector of one tensor, [rows, columns] in float32. Raises PipelineError on NaN or infinity."""
        module = self._modules[name]
        down, up = (np.asarray(self._tensors.read(f"{module}.lora_{side}.weight"), np.float32) for side in "AB")
        delta: Float32 = np.float32(self.scale) * (up @ down)
        require_finite(delta, name, self._tensors.path)
        return delta
