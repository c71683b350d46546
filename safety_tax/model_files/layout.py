"""Which tensor of a checkpoint is which of the network, and which of them nothing reads."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedModel

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint

# Tables of angles: old files hold them, networks compute them.
ROTATION = re.compile(r".*rotary_emb\.(inv_freq|cos_cached|sin_cached)")
COMPILED = "_orig_mod."
# Where a model that sees, too, keeps the one that writes, in files of one Transformers or another.
TEXT = ("language_model.", "model.language_model.")
SIGHT = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")


class Layout(NamedTuple):
    """What a checkpoint's tensors are to a network."""

    unread: list[str]
    """Nothing reads them: tables that are computed, copies of tied tensors, what an encoder of images reads."""
    renamed: dict[str, str]
    """Name in the files -> the network's, where the two differ."""

    def shapes(self, checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
        """The network's name of each tensor that is read -> its shape."""
        names = [name for name in checkpoint.names() if name not in set(self.unread)]
        return {self.renamed.get(name, name): checkpoint.shape(name) for name in names}


def layout_of(checkpoint: Checkpoint, network: PreTrainedModel, sees: bool, where: str) -> Layout:
    """The layout of a checkpoint for the empty `network`, whose tied tensors are one.

    `sees` says that the checkpoint is of a model for images and text. Raises PipelineError where a tensor is there
    twice, or a copy differs from what it should repeat: then the files say two things.
    """
    wanted = {name: id(parameter) for name, parameter in network.named_parameters(remove_duplicate=False)}
    tables = {name for name, _ in network.named_buffers()} - network.state_dict().keys()
    patterns: list[str] = network._keys_to_ignore_on_load_unexpected or []
    ignored = [ROTATION, *map(re.compile, patterns)]
    # By the embeddings' name: `base_model_prefix` is not always what the network calls it.
    inner = next(iter(wanted)).partition(".")[0]
    unread, homes = [], dict[str, str]()
    for name in checkpoint.names():
        if sees and name.startswith(SIGHT):
            unread.append(name)
            continue
        home = _home(name, wanted.keys() | tables, inner, sees)
        if home in tables or (home not in wanted and any(pattern.search(home) for pattern in ignored)):
            unread.append(name)
        elif home in homes:
            raise PipelineError(
                f"Expected each tensor of {where!r} once, found {home} as {homes[home]} and as {name}; save the model "
                "again without one of them."
            )
        else:
            homes[home] = name
    first = {number: name for name, number in reversed(wanted.items())}
    for home, name in list(homes.items()):
        original = first.get(wanted.get(home, 0), home)
        if home != original and original in homes:
            _require_copy(checkpoint, name, homes[original], where)
            unread.append(name)
            del homes[home]
    return Layout(unread, {name: home for home, name in homes.items() if name != home})


def text_tensors(checkpoint: Checkpoint, sees: bool) -> list[str]:
    """The tensors that do not belong to an encoder of images."""
    return [name for name in checkpoint.names() if not (sees and name.startswith(SIGHT))]


def _home(name: str, wanted: Mapping[str, int] | set[str], prefix: str, sees: bool) -> str:
    """The network's name: its own, that of the network without its head, or the one inside a model that sees, too."""
    candidates = [name, f"{prefix}.{name}"]
    for outer in TEXT if sees else ():
        if name.startswith(outer):
            inner = name.removeprefix(outer)
            candidates += [inner, f"{prefix}.{inner}"]
    return next((candidate for candidate in candidates if candidate in wanted), name)


def _require_copy(checkpoint: Checkpoint, copy: str, original: str, where: str) -> None:
    if checkpoint.shape(copy) == checkpoint.shape(original):
        one, other = checkpoint.read(copy), checkpoint.read(original)
        if all(np.array_equal(one[row : row + 1024], other[row : row + 1024]) for row in range(0, len(one), 1024)):
            return
    raise PipelineError(
        f"Expected {copy} of {where!r} to equal {original}, since config.json ties the two, found another tensor, "
        "which Transformers would not read; set tie_word_embeddings to false in config.json if the model was trained "
        f"with a head of its own, else remove {copy}."
    )
