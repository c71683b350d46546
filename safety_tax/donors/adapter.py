"""A LoRA adapter as PEFT saves it, as task vectors."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from safety_tax.core.arrays import Float32
from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint, Tensor, require_finite
from safety_tax.donors.adapter_settings import read_settings
from safety_tax.donors.model_config import has_tied_embeddings, read_config
from safety_tax.donors.task_vectors import difference, is_copy, require_fit, with_rows
from safety_tax.donors.tensor_names import embedding_of, in_base, is_embedding, is_head, unwrapped
from safety_tax.model_files.class_source import stores_inputs_first

ADAPTER_CONFIG = "adapter_config.json"
# `q_proj.lora_A.weight`, `embed_tokens.lora_embedding_B`, and both with an adapter's name inside.
FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.(?!weight$)[^.]+)?(\.weight)?")
# A weight beside an adapter, or in its place.
STORED = re.compile(
    r"(?P<module>.+?)(\.base_layer|\.original_module|\.modules_to_save(\.(?!weight$|bias$)[^.]+)?)?\.(?P<kind>weight|bias)"
)


@dataclass(frozen=True)
class Pair:
    """Keys of A, [rank, in], and B, [out, rank], of one module; of embeddings, `in` are the tokens."""

    down: str
    up: str
    embedding: bool


class Adapter:
    """ΔW = s · B · A (Hu et al. 2021, arXiv:2106.09685), of embeddings its transpose.

    s is alpha / r, or alpha / sqrt(r) for rsLoRA (Kalajdzievski 2023, arXiv:2312.03732); r and alpha may differ from
    module to module. What PEFT stores whole counts as its difference to the base, and copies of the base as nothing.
    """

    def __init__(self, folder: Path, base: Checkpoint) -> None:
        """Raises PipelineError when the adapter is not plain LoRA, or does not fit the base."""
        self.name = folder.name
        self._folder = folder
        self._base = base
        self._settings = read_settings(folder / ADAPTER_CONFIG)
        self._tensors = Checkpoint(folder, "adapter_model*.safetensors")
        # GPT-2's linear layers, its head apart, keep their weights transposed, and B · A with them.
        self._inputs_first = stores_inputs_first(str(read_config(base.path / "config.json").get("model_type")))
        self._pairs: dict[str, Pair] = {}
        self._whole: dict[str, str] = {}
        self._sort()
        self._tie()
        self._check()

    def _sort(self) -> None:
        """Find the pairs and the whole tensors. Raises PipelineError for what is neither."""
        factors: dict[tuple[str, str], dict[str, str]] = {}
        strange = []
        for key in self._tensors.names():
            plain = unwrapped(key)
            if factor := FACTOR.fullmatch(plain):
                place = (in_base(factor["module"] + ".weight", self._base), factor["embedding"] or "")
                self._add(factors.setdefault(place, {}), factor["side"], key)
            elif ".lora_" not in plain and (stored := STORED.fullmatch(plain)):
                self._add(self._whole, in_base(f"{stored['module']}.{stored['kind']}", self._base), key)
            else:
                strange.append(key)
        for (name, embedding), sides in factors.items():
            if sides.keys() != {"A", "B"} or name in self._pairs:
                strange += sides.values()
            else:
                self._pairs[name] = Pair(sides["A"], sides["B"], bool(embedding))
        if strange or not self._pairs:
            raise PipelineError(
                f"Expected pairs of LoRA matrices in {self._folder}, found {sorted(strange)[:1] or 'none'}; "
                "tune it again, or merge it into its base and give the full checkpoint as the donor."
            )

    def _add(self, keys: dict[str, str], name: str, key: str) -> None:
        if name in keys:
            raise PipelineError(
                f"Expected one adapter in {self._folder}, found {keys[name]} beside {key}; save one of them alone."
            )
        keys[name] = key

    def _tie(self) -> None:
        """Leave out copies of the base; with tied embeddings, take a head that changes as they do for them.

        Raises PipelineError when one of the two changes alone: the merged model has one tensor for both.
        """
        touched = {name for name in {**self._pairs, **self._whole} if is_embedding(name) or is_head(name)}
        tied = bool(touched) and has_tied_embeddings(self._base.path)
        table = embedding_of(self._base)
        homes = {name: table if tied and is_head(name) and table else name for name in {*touched, *self._whole}}
        for name, key in list(self._whole.items()):
            if homes[name] in self._base and is_copy(self._tensors.read(key), self._base.read(homes[name])):
                del self._whole[name]
        changed = sorted(name for name in touched if name in self._pairs or name in self._whole)
        if not tied or not changed:
            return
        if len(changed) == 1 or len({homes[name] for name in changed}) != 1 or not self._change_alike(*changed):
            raise PipelineError(
                f"Expected what adapter {self.name!r} does to embeddings and head to be one change, since "
                f"{self._base.path} has one tensor for both (tie_word_embeddings), found it in "
                f"{' and, another one, in '.join(changed)}; tune it with `ensure_weight_tying: true`, or without them."
            )
        for name in changed:
            if is_head(name):
                self._pairs.pop(name, None)
                self._whole.pop(name, None)

    def _change_alike(self, *names: str) -> bool:
        """Whether head and embeddings are the same whole tensor, or the same product of the same matrices."""
        kinds = {(name in self._whole, name in self._pairs) for name in names}
        if kinds == {(True, False)}:
            one, other = ((self._tensors.read(self._whole[name]),) * 2 for name in names)
            scales = {1.0}
        elif kinds == {(False, True)}:
            one, other = (self._factors(name) for name in names)
            scales = {self._scale(name) for name in names}
        else:
            return False
        return len(scales) == 1 and all(map(np.array_equal, one, other))

    def _check(self) -> None:
        for name, key in self._whole.items():
            module = name.rpartition(".")[0]
            if not self._settings.stores(module) and not is_embedding(name) and not is_head(name):
                raise PipelineError(
                    f"Expected LoRA matrices and what `modules_to_save` names in {self._folder}, found {key}; "
                    "merge the adapter into its base and give the full checkpoint as the donor."
                )
            require_fit(self._folder, name, self._tensors.shape(key), self._base)
        for name, pair in self._pairs.items():
            self._check_pair(name, pair)

    def _check_pair(self, name: str, pair: Pair) -> None:
        module = name.removesuffix(".weight")
        down, up = (self._tensors.shape(key) for key in (pair.down, pair.up))
        if len(down) != 2 or len(up) != 2 or down[0] != up[1] or not down[0]:
            raise PipelineError(
                f"Expected the LoRA matrices of {module} in {self._folder} to share a rank, found shapes {down} and "
                f"{up}; tune it again."
            )
        turned = self._turned(name)
        require_fit(self._folder, name, (down[1], up[0]) if turned else (up[0], down[1]), self._base)
        if pair.embedding != is_embedding(name):
            raise PipelineError(
                f"Expected LoRA matrices of {'a linear layer' if pair.embedding else 'embeddings'} at {module} in "
                f"{self._folder}, found {pair.down}; tune it again."
            )
        rank = self._settings.rank_of(module)
        if rank not in (None, down[0]):
            raise PipelineError(
                f"Expected the LoRA matrices of {module} in {self._folder} to have rank {rank}, as {ADAPTER_CONFIG} "
                f"says, found {down[0]}; the two are not of one adapter: fetch it again."
            )
        if not self._settings.adapts(module) and not (self._settings.ties and is_embedding(name)):
            raise PipelineError(
                f"Expected LoRA matrices where {ADAPTER_CONFIG} of {self._folder} says (target_modules, "
                f"exclude_modules, layers_to_transform), found some at {module}, which PEFT leaves out; "
                "the two are not of one adapter: fetch it again."
            )

    def _scale(self, name: str) -> float:
        rank = self._tensors.shape(self._pairs[name].down)[0]
        return self._settings.scale(name.removesuffix(".weight"), rank)

    def _factors(self, name: str) -> tuple[Tensor, Tensor]:
        """The two matrices whose product has the weight's shape, [rows, rank] and [rank, columns]."""
        pair = self._pairs[name]
        down, up = (self._tensors.read(key) for key in (pair.down, pair.up))
        return (down.T, up.T) if self._turned(name) else (up, down)

    def _turned(self, name: str) -> bool:
        """Whether the base keeps the transpose of B · A."""
        return self._pairs[name].embedding or (self._inputs_first and not is_head(name))

    def names(self) -> list[str]:
        """Names of the base's tensors that the donor changes, sorted."""
        return sorted({**self._pairs, **self._whole})

    def delta(self, name: str) -> Float32:
        """Task vector of one tensor. Raises PipelineError on NaN or infinity."""
        base = self._base.read(name)
        where = self._tensors.path
        whole = difference(self._tensors.read(self._whole[name]), base, name, where) if name in self._whole else None
        if name not in self._pairs:
            assert whole is not None
            return whole
        left, right = (np.asarray(factor, np.float32) for factor in self._factors(name))
        delta: Float32 = left @ right
        delta *= np.float32(self._scale(name))
        delta = with_rows(delta, len(base))
        if whole is not None:
            delta = delta + whole
        require_finite(delta, name, where)
        return delta

    def whole(self, name: str) -> Tensor:
        """The base's tensor with what the adapter adds, in float32; as it is stored where that is nothing."""
        base = self._base.read(name)
        if name not in self._pairs and name not in self._whole:
            return base
        whole: Tensor = base.astype(np.float32) + self.delta(name)
        return whole
