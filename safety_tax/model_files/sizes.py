"""The sizes that a config.json names, held against the headers of the tensors before anything of that size is built."""

import re
from collections.abc import Collection
from inspect import signature
from typing import Any

from transformers import CONFIG_MAPPING

from safety_tax.core.errors import PipelineError

MOST_POSITIONS = 2**23  # the tables of a rotary embedding hold a row for each
LAYER = re.compile(r"(?:^|\.)(\d+)\.")
"""The first number in a tensor's name; one behind it counts experts."""
SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")


def require_sizes(config: dict[str, Any], tensors: Collection[str], name: str, whole: bool = True) -> None:
    """A size is a number of at least 1; there are as many layers as the tensors have, and no more experts.

    Where the checkpoint need not be `whole`, there are no more layers than it has tensors, or 1,024. Families have
    names of their own for a size; an absent one is the class's default. Raises PipelineError otherwise.
    """
    kind = CONFIG_MAPPING[config["model_type"]]
    defaults = {key: parameter.default for key, parameter in signature(kind.__init__).parameters.items()}
    keys = {size: kind.attribute_map.get(size, size) for size in SIZES}
    for size, key in keys.items():
        value = config.get(key, defaults.get(key, 1))
        if type(value) is not int or value < 1:
            raise PipelineError(
                f"Expected a size as {key} in config.json of {name!r}, found {str(value)[:80]!r}; fetch it again."
            )
        if size == "max_position_embeddings" and value > MOST_POSITIONS:
            raise PipelineError(
                f"Expected {key} of {MOST_POSITIONS:,} at most in config.json of {name!r}, found {value:,}; fetch it "
                "again."
            )
    depth = int(config.get(keys["num_hidden_layers"], defaults.get(keys["num_hidden_layers"], 0)))
    layers = {found[1] for tensor in tensors if (found := LAYER.search(tensor))}
    most = max(len(tensors), 1024)
    if len(layers) != depth if whole else depth > most:
        raise PipelineError(
            f"Expected {depth:,} layers in the weights of {name!r}, as its config.json says, found {len(layers):,}; "
            "fetch the model again."
        )
    for key, value in config.items():
        if "expert" in key and type(value) is int and value > most:
            raise PipelineError(
                f"Expected {most:,} experts at most in {name!r}, whose weights are {len(tensors):,} tensors, found "
                f"{key} = {value:,} in config.json; fetch it again."
            )
