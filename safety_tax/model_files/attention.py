"""How far each layer looks back, and how far a model reads at all, as the pinned Transformers computes it."""

from inspect import signature
from pathlib import Path
from typing import NamedTuple

from transformers import AutoConfig, PretrainedConfig

# The gate of an export runs no longer prompt: where a window is larger, the model's context ends with it.
CHECKED_TOKENS = 1024
BEYOND = 32
"""Tokens of the gate's longest prompt behind the last window."""
ONE_NODE = (
    *("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "phi3", "gemma", "olmo2", "granite", "smollm3"),
    *("gemma2", "gemma3_text", "olmo", "olmo3", "exaone4", "stablelm", "cohere", "nemotron", "glm", "glm4", "helium"),
    "arcee",
)
"""One node of ONNX Runtime is their attention, from what projections, or norms behind them, give. Tests show it."""
INTERLEAVED = ("cohere", "glm", "glm4", "helium")
"""Those of them that rotate each even element of a head with the odd one beside it."""
LANES = 8
"""ONNX Runtime's node rotates pairs in multiples of so many."""
WRITTEN = (
    *("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma2", "gemma3_text", "olmo2", "olmo3", "granite"),
    "smollm3",
)
"""Those whose whole graph is written node by node, which is what a GPU runs."""


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


def implementation_of(config: PretrainedConfig) -> str | None:
    """The `attn_implementation` that computes what the config says; None where Transformers' own choice does.

    The pinned version takes PyTorch's kernel for Gemma-2, too, which leaves out the cap of the scores without a word.
    """
    return "eager" if getattr(config, "attn_logit_softcapping", None) is not None else None


def implementation_in(folder: Path) -> str | None:
    """The same of the model in `folder`."""
    return implementation_of(AutoConfig.from_pretrained(folder))


def unfit(config: PretrainedConfig, families: tuple[str, ...] = ONE_NODE) -> str | None:
    """Why one node a layer is not the model's attention, in words for "it has ...", or None where it is.

    The parity gate does not show all of this: its prompts are few.
    """
    if config.model_type not in families:
        return f"the attention of {config.model_type!r}"
    if len({window for window in attention_of(config).windows if window is not None}) > 1:
        return "windows of more than one size"
    if getattr(config, "qk_layernorm", False):
        return "a norm of its own for each head"
    if getattr(config, "clip_qkv", None) is not None:
        return "clipped queries, keys and values"
    if turned_of(config) % (2 * LANES):
        return f"heads of which {turned_of(config)} numbers are rotated, no multiple of {2 * LANES}"
    return None


def unwritten(config: PretrainedConfig) -> str | None:
    """The same of the graph that is written node by node."""
    if reason := unfit(config, WRITTEN):
        return reason
    activation = activation_of(config)
    return None if activation in ("silu", "gelu_pytorch_tanh") else f"the activation {activation!r}"


def activation_of(config: PretrainedConfig) -> str:
    """The name of what a layer's second part applies; Gemma-2's and 3's classes read a key of their own for it."""
    key = "hidden_activation" if config.model_type in ("gemma2", "gemma3_text") else "hidden_act"
    return str(getattr(config, key, "silu"))


def cap_of(config: PretrainedConfig) -> float:
    """Of the scores, by a class that applies one; 0 where it does not."""
    return float(getattr(config, "attn_logit_softcapping", None) or 0) if config.model_type == "gemma2" else 0.0


def head_of(config: PretrainedConfig) -> int:
    """Numbers of a head's query or key."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def turned_of(config: PretrainedConfig) -> int:
    """Those of them that are rotated by the token's position."""
    return int(head_of(config) * (getattr(config, "partial_rotary_factor", None) or 1))


def turns(config: PretrainedConfig, layer: int) -> bool:
    """Whether a layer rotates at all: not all of SmolLM3's and EXAONE-4's do."""
    if config.model_type == "exaone4" and config.sliding_window is not None:
        return bool(config.layer_types[layer] == "sliding_attention")
    marks = getattr(config, "no_rope_layers", None)  # 1 where a layer rotates, for all its name
    return bool(marks is None or marks[layer])


def _windows(config: PretrainedConfig) -> tuple[int | None, ...]:
    """By what the class reads: one that takes no `layer_types` gives its window to every layer."""
    reads = signature(type(config).__init__).parameters
    layers = range(config.num_hidden_layers)
    if "attention_types" in reads:  # GPT-Neo's
        return tuple(config.window_size if kind == "local" else None for kind in config.attention_layers)
    window = getattr(config, "sliding_window", None) if "sliding_window" in reads else None
    kinds = config.layer_types if "layer_types" in reads else None
    if kinds is None:
        return tuple(window for _ in layers)
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _rope_kind(config: PretrainedConfig) -> str:
    scaling = getattr(config, "rope_scaling", None) or {}
    return str(scaling.get("rope_type", scaling.get("type", "default")))
