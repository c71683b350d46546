"""The sizes of a model whose layers are as most families' are, by its config.json alone."""

import json
from pathlib import Path
from typing import Any, NamedTuple

ITEM = {"float32": 4, "float16": 2, "bfloat16": 2}


class Shape(NamedTuple):
    """Numbers of elements; `key_values` is the width of all key heads together."""

    layers: int
    width: int
    inner: int
    words: int
    key_values: int
    tied: bool
    biased: bool
    """Query, key and value have biases."""
    experts: int = 1
    """MLPs of a layer; a token goes through some of them."""
    heads: int | None = None
    """Width of all query heads together, where it is not the model's."""

    @property
    def queries(self) -> int:
        """Width of all query heads together."""
        return self.heads or self.width

    dtype: str | None = None
    """Of the weights at their source, where the configuration says it."""

    @property
    def embedding(self) -> int:
        """Weights of the embedding, and of the head."""
        return self.words * self.width

    @property
    def linear(self) -> int:
        """Weights of the linear layers, without the head: a token costs twice so many operations."""
        attention = 2 * self.width * (self.queries + self.key_values)
        return self.layers * (attention + self.experts * 3 * self.width * self.inner)

    @property
    def inputs(self) -> int:
        """Squares of the widths of a layer's distinct linear inputs: attention's, its output's, the MLP's two."""
        return 3 * self.width**2 + self.inner**2

    @property
    def parameters(self) -> int:
        """All weights."""
        biases = self.layers * (self.queries + 2 * self.key_values) if self.biased else 0
        norms = (2 * self.layers + 1) * self.width
        return self.embedding * (1 if self.tied else 2) + self.linear + biases + norms

    def bytes(self, dtype: str) -> int:
        """Of all weights in that type."""
        return ITEM[dtype] * self.parameters

    @property
    def largest(self) -> int:
        """Weights of the largest tensor."""
        return max(self.embedding, self.width * self.inner)


def shape_of(config: dict[str, Any]) -> Shape | None:
    """The shape of a model, or None where its configuration does not give it."""
    try:
        width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        head = int(config.get("head_dim") or width // heads)
        experts = int(config.get("num_local_experts") or config.get("num_experts") or 1)
        inner = config.get("moe_intermediate_size") if experts > 1 else None
        return Shape(
            layers=int(config["num_hidden_layers"]),
            width=width,
            inner=int(inner or config["intermediate_size"]),
            words=int(config["vocab_size"]),
            key_values=head * int(config.get("num_key_value_heads") or heads),
            tied=bool(config.get("tie_word_embeddings", False)),
            biased=config.get("model_type") == "qwen2",
            experts=experts,
            heads=head * heads,
            dtype=config.get("dtype") or config.get("torch_dtype"),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def read_shape(file: Path) -> Shape | None:
    """The shape that a config.json gives, or None."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return shape_of(config) if isinstance(config, dict) else None
