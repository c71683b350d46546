"""Donors as task vectors: how each differs from the base, one tensor at a time, in float32."""

import json
import re
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stages.lib.errors import PipelineError, how_to_have
from stages.lib.merging.updates import Float32, blocks
from stages.lib.tensor_files import Checkpoint, Tensor, require_finite

ADAPTER_CONFIG = "adapter_config.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
MOST_ALPHA = 1e6
MOST_REPETITIONS = 3
# Settings under which an adapter is more, or other, than s · B · A.
UNUSUAL = (
    "use_dora",
    "fan_in_fan_out",
    "lora_bias",
    "use_qalora",
    "trainable_token_indices",
)
# Beginnings of `init_lora_weights` that change the base's weights, too: PEFT converts such an adapter when asked.
MOVES_BASE = ("pissa", "olora", "corda", "loftq")


class Donor(Protocol):
    """A donor of a base."""

    name: str

    def names(self) -> list[str]:
        """Names of the base's tensors that the donor may change, sorted."""

    def delta(self, name: str) -> Float32:
        """Task vector of one tensor, of its shape. Raises PipelineError on NaN or infinity."""


def open_donor(folder: Path, base: Checkpoint) -> Donor:
    """The adapter or the full checkpoint in `folder`. Raises PipelineError when it does not fit the base."""
    if (folder / ADAPTER_CONFIG).exists():
        _require_safetensors(folder, "adapter_model*.safetensors")
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


def read_config(file: Path) -> dict[str, Any]:
    """A JSON object. Raises PipelineError when the file holds none."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise PipelineError(f"Expected a JSON object in {file}, found {error}; fetch it again.") from None
    if not isinstance(config, dict):
        raise PipelineError(f"Expected a JSON object in {file}, found {type(config).__name__}; fetch it again.")
    return config


def require_settings(config: dict[str, Any], file: Path) -> None:
    """Raises PipelineError when what the scale is computed from is no number, or no pattern to match names with."""
    alphas = config.get("alpha_pattern") or {}
    whole = config.get("modules_to_save") or []
    wrong = []
    if not isinstance(alphas, dict) or not all(map(_is_pattern, alphas)) or not all(map(_is_scale, alphas.values())):
        wrong.append("alpha_pattern")
    if not _is_scale(config.get("lora_alpha")):
        wrong.append("lora_alpha")
    if not isinstance(whole, list) or not all(isinstance(name, str) for name in whole):
        wrong.append("modules_to_save")
    if wrong:
        raise PipelineError(
            f"Expected a setting that PEFT writes as {wrong[0]} in {file}, found {str(config.get(wrong[0]))[:80]!r}; "
            "fetch it again."
        )


def _is_scale(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST_ALPHA


def _is_pattern(text: str) -> bool:
    """A regular expression that no name keeps busy: few repetitions, and none of a group."""
    if len(re.findall(r"[*+?{]", text)) > MOST_REPETITIONS or re.search(r"\)[*+?{]", text):
        return False
    try:
        re.compile(rf"(.*\.)?({text})$")
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _require_fit(donor: str, name: str, shape: tuple[int, ...], base: Checkpoint) -> None:
    if name not in base:
        raise PipelineError(
            f"Expected donor {donor!r} to fit the base, found its target {name}, which {base.path} lacks; "
            "the donor is of another architecture: tune it on this base."
        )
    if shape != base.shape(name):
        raise PipelineError(
            f"Expected donor {donor!r} to have the shape {base.shape(name)} of the base at {name}, found "
            f"{shape}; the donor is of another architecture or vocabulary: tune it on this base."
        )


def difference(stored: Tensor, base: Tensor, name: str, where: Path) -> Float32:
    """W_donor − W_base in float32. Raises PipelineError on NaN or infinity."""
    delta = np.empty(stored.size, np.float32)
    ours, theirs = stored.reshape(-1), base.reshape(-1)
    for block in blocks(stored.size):
        delta[block] = np.subtract(ours[block], theirs[block], dtype=np.float32)
    require_finite(delta, name, where)
    return delta.reshape(stored.shape)


class FullCheckpoint:
    """A whole model of the base's architecture: ΔW = W_donor − W_base."""

    def __init__(self, folder: Path, base: Checkpoint) -> None:
        """Raises PipelineError when architecture, tensors or vocabulary are not the base's."""
        self.name = folder.name
        self._base = base
        self._tensors = Checkpoint(folder, "model*.safetensors")
        ours, theirs = read_config(base.path / "config.json"), read_config(folder / "config.json")
        for key in ("model_type", "tie_word_embeddings"):
            if ours.get(key) != theirs.get(key):
                raise PipelineError(
                    f"Expected donor {self.name!r} to have the base's {key} {ours.get(key)!r}, found "
                    f"{theirs.get(key)!r} in {folder / 'config.json'}; "
                    "the donor is of another architecture: choose one of this base."
                )
        names = set(self._tensors.names())
        if theirs.get("tie_word_embeddings") and "lm_head.weight" not in base:
            names.discard("lm_head.weight")  # a copy of the embeddings, which Transformers does not read
        for name in sorted(names):
            _require_fit(self.name, name, self._tensors.shape(name), base)
        missing = sorted(set(base.names()) - names)
        if missing:
            raise PipelineError(
                f"Expected donor {self.name!r} to have every tensor of the base, found no {missing[0]} in {folder} "
                f"({len(missing)} missing); fetch it again."
            )
        self._names = sorted(names)

    def names(self) -> list[str]:
        """All of the base's tensors."""
        return self._names

    def delta(self, name: str) -> Float32:
        """Task vector of one tensor. Raises PipelineError on NaN or infinity."""
        return difference(self._tensors.read(name), self._base.read(name), name, self._tensors.path)


class Adapter:
    """A LoRA adapter as PEFT saves it: ΔW = s · B · A (Hu et al. 2021, arXiv:2106.09685).

    s is alpha / r, or alpha / sqrt(r) for rsLoRA (Kalajdzievski 2023, arXiv:2312.03732); r and alpha may differ from
    module to module. What PEFT calls `modules_to_save` is stored whole: its task vector is its difference to the base.
    """

    def __init__(self, folder: Path, base: Checkpoint) -> None:
        """Raises PipelineError when the adapter is not plain LoRA, or does not fit the base."""
        self.name = folder.name
        self._base = base
        self._config = read_config(folder / ADAPTER_CONFIG)
        unusual = [key for key in UNUSUAL if self._config.get(key)]
        start = str(self._config.get("init_lora_weights"))
        if start.lower().startswith(MOVES_BASE):  # PEFT takes any case
            unusual.append(f"init_lora_weights {start[:80]}")
        if self._config.get("peft_type") != "LORA" or self._config.get("bias", "none") != "none" or unusual:
            found = unusual or [str(self._config.get("peft_type")), f"bias {self._config.get('bias')}"]
            raise PipelineError(
                f"Expected a plain LoRA adapter in {folder}, found {', '.join(found)}; "
                "merge it into its base first and give the full checkpoint as the donor."
            )
        require_settings(self._config, folder / ADAPTER_CONFIG)
        self._tensors = Checkpoint(folder, "adapter_model*.safetensors")
        self._modules: dict[str, str] = {}
        self._whole: dict[str, str] = {}
        for key in self._tensors.names():
            module = re.sub(r"\.lora_[AB]\.weight$", "", key)
            if module != key:
                self._modules[module.removeprefix("base_model.model.") + ".weight"] = module
            elif ".lora_" not in key:
                self._whole[key.removeprefix("base_model.model.")] = key
        self._check(folder)

    def _check(self, folder: Path) -> None:
        expected = {f"{module}.lora_{side}.weight" for module in self._modules.values() for side in "AB"}
        strange = set(self._tensors.names()) ^ (expected | set(self._whole.values()))
        whole = self._config.get("modules_to_save") or []
        strange |= {key for name, key in self._whole.items() if not any(part in name.split(".") for part in whole)}
        if strange or not self._modules:
            raise PipelineError(
                f"Expected pairs of LoRA matrices in {folder}, found {sorted(strange)[:1] or 'none'}; tune it again."
            )
        for name, key in self._whole.items():
            _require_fit(self.name, name, self._tensors.shape(key), self._base)
        for name, module in self._modules.items():
            down, up = (self._tensors.shape(f"{module}.lora_{side}.weight") for side in "AB")
            if len(down) != 2 or len(up) != 2 or down[0] != up[1] or not down[0]:
                raise PipelineError(
                    f"Expected the LoRA matrices of {module} in {folder} to share a rank, found shapes {down} and "
                    f"{up}; tune it again."
                )
            _require_fit(self.name, name, (up[0], down[1]), self._base)

    def scale(self, module: str, rank: int) -> float:
        """s of one module; the first `alpha_pattern` that matches the end of its name wins, as in PEFT."""
        alpha = self._config["lora_alpha"]
        plain = module.removeprefix("base_model.model.")
        for pattern, value in (self._config.get("alpha_pattern") or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", plain):
                alpha = value
                break
        return float(alpha / (rank**0.5 if self._config.get("use_rslora") else rank))

    def names(self) -> list[str]:
        """Names of the base's tensors that the donor changes, sorted."""
        return sorted({**self._modules, **self._whole})

    def delta(self, name: str) -> Float32:
        """Task vector of one tensor. Raises PipelineError on NaN or infinity."""
        if name in self._whole:
            return difference(self._tensors.read(self._whole[name]), self._base.read(name), name, self._tensors.path)
        module = self._modules[name]
        down, up = (np.asarray(self._tensors.read(f"{module}.lora_{side}.weight"), np.float32) for side in "AB")
        delta: Float32 = up @ down
        delta *= np.float32(self.scale(module, len(down)))
        require_finite(delta, name, self._tensors.path)
        return delta
