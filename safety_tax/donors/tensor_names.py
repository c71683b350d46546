"""One name for one tensor: what wraps a module while it is trained leaves its name in a checkpoint."""

import re

from safety_tax.core.tensor_files import Checkpoint

LAYER = re.compile(r"(\.(?:layers|h)\.)(\d+)(?=\.)")
# torch.compile, FSDP, activation checkpointing, DistributedDataParallel, TRL's models with a value head.
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module", "pretrained_model")
PEFT = "base_model.model."
EMBEDDINGS = ("embed_tokens", "embed_in", "wte", "word_embeddings")
POSITIONS = ("wpe",)
HEADS = ("lm_head", "embed_out")
# Prefixes of the network without its head, in a checkpoint of the one with it.
INNER = ("model.", "transformer.", "gpt_neox.")


def unwrapped(key: str) -> str:
    """A tensor's name without wrappers and PEFT's prefix."""
    name = ".".join(part for part in key.split(".") if part not in WRAPPERS)
    while name.startswith(PEFT):
        name = name.removeprefix(PEFT)
    return name


def in_base(name: str, base: Checkpoint) -> str:
    """The base's name of a tensor that was saved from the model with its head, or from the one inside it."""
    candidates = (name, *(f"{inner}{name}" for inner in INNER), *(name.removeprefix(inner) for inner in INNER))
    return next((candidate for candidate in candidates if candidate in base), name)


def is_embedding(name: str) -> bool:
    """Whether a tensor is the table of embeddings, [tokens, width]."""
    return re.search(rf"(^|\.)({'|'.join(EMBEDDINGS)})\.weight$", name) is not None


def precedes_layers(name: str) -> bool:
    """Whether a tensor acts before the first layer: embeddings of tokens or of positions."""
    return is_embedding(name) or re.search(rf"(^|\.)({'|'.join(POSITIONS)})\.weight$", name) is not None


def is_head(name: str) -> bool:
    """Whether a tensor is of the head, with a row for each token."""
    return re.search(rf"(^|\.)({'|'.join(HEADS)})\.(weight|bias)$", name) is not None


def embedding_of(base: Checkpoint) -> str | None:
    """The base's table of embeddings."""
    return next(filter(is_embedding, base.names()), None)


def layer_of(name: str) -> int | None:
    """Number of the layer that a tensor belongs to; None for embeddings, last norm and head."""
    found = LAYER.search(name)
    return int(found[2]) if found else None


def in_layer(name: str, layer: int) -> str:
    """The tensor of that name in another layer."""
    return LAYER.sub(rf"\g<1>{layer}", name, count=1)
