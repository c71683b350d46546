"""How far each layer looks back, and how far a model reads at all, as the pinned Transformers computes it."""

from pathlib import Path
from typing import NamedTuple

from transformers import AutoConfig, PretrainedConfig

# The gate of an export runs no longer prompt: where a window is larger, the model's context ends with it.
CHECKED_TOKENS = 1024
BEYOND = 32
"""Tokens of the gate's longest prompt behind the last window."""
WITHOUT_WINDOW = ("llama",)
"""Their classes read no `sliding_window`, whatever the file says."""
ONE_WINDOW = ("mistral",)
"""Their classes give `sliding_window` to every layer, and read no `layer_types`."""


ONE_NODE = ("llama", "mistral", "qwen2")
"""Projection, rotation, attention: nothing stands between."""
WRITTEN = (*ONE_NODE, "qwen3")
"""Those whose whole graph is written node by node."""


class Attention(NamedTuple):
    """Tokens, the one that looks included."""

    windows: tuple[int | None, ...]
    """Of each layer, first to last; None sees all."""
    context: int
    """In all, prompt and answer."""

    @property
    def smallest(self) -> int | None:
        """The smallest window of any layer."""
        return min((window for window in self.windows if window is not None), default=None)

    @property
    def uniform(self) -> bool:
        """Whether all layers look back equally far."""
        return len(set(self.windows)) == 1

    def gate_length(self) -> int | None:
        """Tokens of a prompt that ends behind every window that the context leaves room behind, or None."""
        reached = [window for window in self.windows if window is not None and window < self.context]
        return min(max(reached) + BEYOND, self.context) if reached else None


def attention_of(config: PretrainedConfig) -> Attention:
    """The attention of a configuration's layers.

    Scaled rotation of the kind `longrope` takes other angles beyond its switch, which no exported graph does: the
    context ends there.
    """
    context = int(config.max_position_embeddings)
    if _rope_kind(config) == "longrope":
        context = min(context, int(getattr(config, "original_max_position_embeddings", None) or context))
    windows = _windows(config)
    unchecked = [window for window in windows if window is not None and window > CHECKED_TOKENS]
    return Attention(windows, min([context, *unchecked]))


def read_attention(folder: Path) -> Attention:
    """The attention of the model in `folder`."""
    return attention_of(AutoConfig.from_pretrained(folder))


def one_attention_fits(config: PretrainedConfig) -> bool:
    """Whether one node a layer with one rotation and one window for all is the model's attention.

    The parity gate does not show this: its prompts are few. Qwen3 normalises queries and keys before it rotates them.
    """
    return config.model_type in ONE_NODE and _one_rotation(config)


def rows_fit(config: PretrainedConfig) -> bool:
    """The same of the graph that is written node by node, norms of queries and keys included."""
    return config.model_type in WRITTEN and _one_rotation(config) and config.hidden_act == "silu"


def _one_rotation(config: PretrainedConfig) -> bool:
    whole = (getattr(config, "partial_rotary_factor", None) or 1) == 1
    return whole and _rope_kind(config) != "longrope" and attention_of(config).uniform


def _windows(config: PretrainedConfig) -> tuple[int | None, ...]:
    window = getattr(config, "sliding_window", None)
    layers = range(config.num_hidden_layers)
    if config.model_type in WITHOUT_WINDOW:
        return tuple(None for _ in layers)
    kinds = None if config.model_type in ONE_WINDOW else getattr(config, "layer_types", None)
    if kinds is None:
        return tuple(window for _ in layers)
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _rope_kind(config: PretrainedConfig) -> str:
    scaling = getattr(config, "rope_scaling", None) or {}
    return str(scaling.get("rope_type", scaling.get("type", "default")))
