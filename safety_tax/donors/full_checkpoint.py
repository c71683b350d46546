"""A whole model of the base's architecture, as task vectors."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from safety_tax.core.arrays import Float32
from safety_tax.core.errors import PipelineError
from safety_tax.core.files import write_json
from safety_tax.core.tensor_files import Checkpoint, Tensor
from safety_tax.core.text_files import read_json_object
from safety_tax.donors.model_config import has_tied_embeddings, read_config, require_same_function
from safety_tax.donors.task_vectors import difference, require_fit
from safety_tax.donors.tensor_names import in_base, is_head, unwrapped

# Old Llama files store what Transformers computes from the config.
COMPUTED = (".rotary_emb.inv_freq",)
# What stands beside, or in the place of, a weight that is stored in few bits.
QUANTISED = (".qweight", ".weight_scale", ".weight_scale_inv", ".absmax", ".weight_packed", ".SCB", ".scales")

ALLOWED = "may_differ.json"
"""Beside a donor's weights: the settings in which params.yaml lets it be other than the base."""


def allow(folder: Path, may_differ: Collection[str]) -> None:
    """Let the donor in `folder` be other than the base in these settings of config.json."""
    write_json(folder / ALLOWED, {"may_differ": sorted(may_differ)})


def _allowed(folder: Path) -> list[str]:
    return list(read_json_object(folder / ALLOWED)["may_differ"]) if (folder / ALLOWED).exists() else []


class FullCheckpoint:
    """ΔW = W_donor − W_base."""

    def __init__(self, folder: Path, base: Checkpoint) -> None:
        """Raises PipelineError when architecture, function, tensors or vocabulary are not the base's."""
        self.name = folder.name
        self._base = base
        _require_unquantised(folder)
        require_same_function(self.name, base.path, folder, _allowed(folder))
        self._tensors = Checkpoint(folder, "model*.safetensors")
        self._keys = self._named(folder)
        missing = sorted(set(base.names()) - self._keys.keys() - self._unread)
        if strange := sorted(self._keys.keys() - set(base.names())):
            step = "it is of another architecture: choose a donor of this base"
            if not missing:
                step = (
                    "save it without that if it served training alone (a value head), else choose a donor of this base"
                )
            raise PipelineError(
                f"Expected donor {self.name!r} to have the base's tensors and no other, found {strange[0][:120]} in "
                f"{folder} ({len(strange)} in all); {step}."
            )
        for name, key in sorted(self._keys.items()):
            require_fit(folder, name, self._tensors.shape(key), base)
        if missing:
            raise PipelineError(
                f"Expected donor {self.name!r} to have every tensor of the base, found no {missing[0]} in {folder} "
                f"({len(missing)} missing); fetch it again."
            )

    def _named(self, folder: Path) -> dict[str, str]:
        """The base's name of each tensor -> its own."""
        keys: dict[str, str] = {}
        for key in self._tensors.names():
            name = in_base(unwrapped(key), self._base)
            what = "a quantised weight" if key.endswith(QUANTISED) else "an adapter" if ".lora_" in key else None
            if what:
                raise PipelineError(
                    f"Expected plain weights in {folder}, found {what} at {key}; dequantise the model, or merge the "
                    "adapter into it, save it as safetensors and give that as the donor."
                )
            if name in keys:
                raise PipelineError(
                    f"Expected each tensor of donor {self.name!r} once, found {name} as {keys[name]} and as {key}; "
                    "save it again without one of them."
                )
            keys[name] = key
        heads = {name for name in {*keys, *self._base.names()} if is_head(name)}
        # Transformers reads no head where it is the embeddings.
        self._unread = heads if heads and has_tied_embeddings(self._base.path) else set()
        return {name: key for name, key in keys.items() if name not in self._unread and not name.endswith(COMPUTED)}

    def names(self) -> list[str]:
        """All of the base's tensors."""
        return sorted(self._keys)

    def delta(self, name: str) -> Float32:
        """Task vector of one tensor. Raises PipelineError on NaN or infinity."""
        return difference(self._tensors.read(self._keys[name]), self._base.read(name), name, self._tensors.path)

    def whole(self, name: str) -> Tensor:
        """One of the base's tensors as it is stored; the base's rows where it has fewer, none beyond the base's."""
        base = self._base.read(name)
        if name not in self._keys:  # a head that is the embeddings
            return base
        stored = self._tensors.read(self._keys[name])
        if len(stored) >= len(base):
            return stored[: len(base)]
        return np.concatenate([stored, base[len(stored) :].astype(stored.dtype)])


def _require_unquantised(folder: Path) -> None:
    """Raises PipelineError with the kind of quantisation that config.json names."""
    quantisation = read_config(folder / "config.json").get("quantization_config")
    if not quantisation:
        return
    settings = quantisation if isinstance(quantisation, dict) else {}
    kind = str(settings.get("quant_method", "an unnamed method"))[:80]
    for bits in (4, 8):
        if settings.get(f"load_in_{bits}bit") or settings.get("bits") == bits:
            kind += f", {bits} bits"
    raise PipelineError(
        f"Expected a donor in float32, float16 or bfloat16 in {folder}, found one quantised by {kind} "
        "(quantization_config of its config.json); load it with Transformers, call `model.dequantize()`, save it and "
        "give that as the donor."
    )
