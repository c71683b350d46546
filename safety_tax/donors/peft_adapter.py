"""An adapter whose update is no product of two matrices, as task vectors: PEFT merges it, one module at a time."""

import ctypes
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from transformers import PreTrainedModel

from safety_tax.core.arrays import Float32
from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint, Tensor, require_finite
from safety_tax.donors.model_config import has_tied_embeddings, read_config
from safety_tax.donors.task_vectors import difference
from safety_tax.donors.tensor_names import in_base, is_embedding, is_head, unwrapped
from safety_tax.model_files.faults import FAULTS
from safety_tax.model_files.network import empty_network

NAME = "default"
# Tensors are merged on several threads. A module's weight and bias share it, PyTorch uses all cores for one, and memory
# holds one module at a time.
_MERGING = Lock()
# Of who saved the file, and of no weight.
UNREAD = ("auto_mapping", "peft_version", "revision", "runtime_config", "task_type")


class Slot(NamedTuple):
    """One of the base's tensors that an adapter's module merges."""

    module: BaseTunerLayer
    stem: str
    """The base's name of the module."""
    kind: str
    """The tensor's name within it."""


class PeftAdapter:
    """ΔW = what PEFT's `merge` makes of W, less W, in float32.

    PEFT's modules stand over a base without weights. Each gets its own from the checkpoint for as long as it is merged,
    so that memory holds the adapter and one module.
    """

    def __init__(self, folder: Path, base: Checkpoint, settings: dict[str, Any]) -> None:
        """Raises PipelineError when the adapter does not fit the base. `settings` are those of adapter_config.json."""
        self.name = folder.name
        self._base = base
        self._tensors = Checkpoint(folder, "adapter_model*.safetensors")
        network = empty_network(read_config(base.path / "config.json"), base.path.name)
        for module in network.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, torch.nn.Parameter(_nothing(parameter.shape), requires_grad=False))
        network.tie_weights()
        self._network = self._with_adapter(network, settings)
        self._merged: dict[str, Slot] = {}
        self._whole: dict[str, torch.Tensor] = {}
        self._sort()

    def _with_adapter(self, network: PreTrainedModel, settings: dict[str, Any]) -> PeftModel:
        """The network with the adapter's modules and weights. Raises PipelineError when the two do not fit."""
        kind = PEFT_TYPE_TO_CONFIG_MAPPING[settings["peft_type"]]
        known = {key: value for key, value in settings.items() if key not in UNREAD}
        for key in sorted(known.keys() - kind.__dataclass_fields__.keys()):
            if known.pop(key):
                raise PipelineError(
                    f"Expected settings of {settings['peft_type']} that the pinned PEFT reads in {self._tensors.path}, "
                    f"found {key[:80]} {str(settings[key])[:80]}; merge it into its base first and give the full "
                    "checkpoint as the donor."
                )
        state = {}
        for key in self._tensors.names():
            tensor, plain = self._tensors.read(key), unwrapped(key)
            require_finite(tensor, key, self._tensors.path)
            # What all modules share stands outside the network.
            place = plain if plain.startswith("base_model.") else f"base_model.model.{plain}"
            state[place] = torch.from_numpy(np.array(tensor, np.float32))
        with _quietly(), torch.no_grad():
            try:
                tuned = PeftModel(network, kind(**known | {"inference_mode": True}), NAME)
                wanted = get_peft_model_state_dict(tuned, adapter_name=NAME, save_embedding_layers=False).keys()
                found: Any = set_peft_model_state_dict(tuned, state, NAME)
            except FAULTS as error:
                # PyTorch's first line says that there are faults, the second has the first of them.
                lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
                reason = " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:200]
                raise PipelineError(
                    f"Expected an adapter in {self._tensors.path} that PEFT puts on the base, found: {reason}; choose "
                    "an adapter of this base, or fetch it again."
                ) from None
        if strange := sorted({*found.unexpected_keys, *(wanted ^ state.keys())}):
            raise PipelineError(
                f"Expected the tensors that PEFT reads for {settings['peft_type']} in {self._tensors.path}, found one "
                f"more or less: {strange[0][:120]}; the files are not of one adapter of this base: fetch it again."
            )
        return tuned

    def _sort(self) -> None:
        """Which of the base's tensors are whose. Raises PipelineError when none is, or tied embeddings are."""
        for path, module in self._network.named_modules():
            if isinstance(module, BaseTunerLayer):
                for kind, _ in module.get_base_layer().named_parameters():
                    name = in_base(unwrapped(f"{path}.{kind}"), self._base)
                    self._merged[name] = Slot(module, name.removesuffix(f".{kind}"), kind)
            elif isinstance(module, ModulesToSaveWrapper):
                for name, weight in module.modules_to_save[NAME].named_parameters():
                    self._whole[in_base(unwrapped(f"{path}.{name}"), self._base)] = weight
        names = self.names()
        moved = next((name for name in names if is_embedding(name) or is_head(name)), None)
        if moved and has_tied_embeddings(self._base.path):
            raise PipelineError(
                "Expected an adapter that leaves embeddings and head alone, since tie_word_embeddings makes the base's "
                f"two one tensor, found {moved} in {self._tensors.path}; merge it into its base first and give the "
                "full checkpoint as the donor."
            )
        if not names or (missing := [name for name in names if name not in self._base]):
            raise PipelineError(
                f"Expected the adapter in {self._tensors.path} to change tensors of the base, found "
                f"{missing[0] if names else 'none that it does'}; choose an adapter of this base."
            )

    def names(self) -> list[str]:
        """Names of the base's tensors that the donor may change, sorted."""
        return sorted({**self._merged, **self._whole})

    def delta(self, name: str) -> Float32:
        """Task vector of one tensor. Raises PipelineError on NaN or infinity."""
        return difference(self.whole(name), self._base.read(name), name, self._tensors.path)

    def whole(self, name: str) -> Tensor:
        """One of the base's tensors as PEFT merges it, in float32; as it is stored where nothing changes it."""
        if name in self._whole:
            found: Tensor = self._whole[name].detach().numpy()
            return found
        return self._merge(self._merged[name]) if name in self._merged else self._base.read(name)

    def _merge(self, slot: Slot) -> Tensor:
        """What PEFT makes of one module's tensor, on weights that are here for as long as that takes."""
        with _MERGING:
            module, layer = slot.module, slot.module.get_base_layer()
            for kind, parameter in layer.named_parameters():
                parameter.data = torch.from_numpy(np.array(self._base.read(f"{slot.stem}.{kind}"), np.float32))
            with _quietly(), torch.no_grad():
                module.merge()
                changed = module.get_base_layer()
                merged: Tensor = dict(changed.named_parameters())[slot.kind].detach().numpy().copy()
                if changed is not layer:  # it took another layer's place, and goes back
                    module.unmerge()
            module.merged_adapters.clear()
            for parameter in layer.parameters():
                parameter.data = _nothing(parameter.shape)
            with suppress(OSError, AttributeError):  # glibc's alone; it would keep what one tensor after another freed
                ctypes.CDLL(None).malloc_trim(0)
        return merged


def _nothing(shape: torch.Size) -> torch.Tensor:
    """A tensor of that shape that takes no memory."""
    return torch.zeros(1).expand(shape)


@contextmanager
def _quietly() -> Iterator[None]:
    """PEFT warns of what is no fault here: of tied embeddings, and of merging that could not be undone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
