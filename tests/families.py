"""The families that are tried from end to end: one row each, two layers of random weights."""

import inspect
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

SIZES = {
    **{"vocab_size": 600, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048},
    **{"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 2},
}
MIXED = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
YARN = {
    **{"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 256},
    **{"beta_fast": 32.0, "beta_slow": 1.0, "truncate": False},
}
LONG = {"type": "longrope", "short_factor": [1 + n / 8 for n in range(8)], "long_factor": [4.0] * 8}
WIDE = {"num_attention_heads": 2, "num_key_value_heads": 1}
"""Heads of 32 numbers, half of which are as many as the fast graph rotates."""


@dataclass(frozen=True)
class Family:
    """A row of the table in the docs, and what its tiny model is made of."""

    models: str
    """Published models of this kind."""
    kind: str
    """`model_type`."""
    settings: dict[str, Any] = field(default_factory=dict)
    spread: float = 0.25
    """Standard deviation of the weights: logits far from flat, and no more rounding than in a published model."""

    def config(self) -> PretrainedConfig:
        """The sizes that the class knows, and the row's own settings."""
        made = CONFIG_MAPPING[self.kind]
        reads = {*inspect.signature(made.__init__).parameters, *made.attribute_map, "bos_token_id", "eos_token_id"}
        sizes = {key: value for key, value in SIZES.items() if key in reads or key == "pad_token_id"}
        if "num_key_value_heads" not in inspect.signature(made.__init__).parameters:
            sizes.pop("num_key_value_heads", None)
        config: PretrainedConfig = made(**sizes | self.settings)
        return config

    def network(self) -> PreTrainedModel:
        """Every tensor drawn: a new model's norms are all ones and its biases zeros, and could be swapped unseen."""
        from transformers.modeling_utils import no_init_weights  # Transformers 5 reads the rows, too, and has it not

        with no_init_weights():
            network: PreTrainedModel = AutoModelForCausalLM.from_config(self.config())
        network.tie_weights()
        torch.manual_seed(7)
        for name, weight in network.named_parameters():
            if weight.ndim > 1:
                weight.data.normal_(0, self.spread)
            elif ("norm" in name or "ln_" in name) and "bias" not in name:
                weight.data.uniform_(0.5, 1.5)
            else:
                weight.data.uniform_(-0.3, 0.3)
        network.eval()
        return network


# In the order of their worth to people who merge. The first six are tried by default, the others with `-m slow`.
FAMILIES = {
    "nemo": Family("Mistral-Nemo, Mistral-Small-3, Ministral", "mistral", {"head_dim": 32, "sliding_window": None}),
    "qwen3": Family("Qwen3", "qwen3", {"head_dim": 32}),
    "gemma2": Family("Gemma-2", "gemma2", {"head_dim": 32, "query_pre_attn_scalar": 24, **MIXED}, 0.15),
    "phi4": Family("Phi-4, Phi-3", "phi3", {"tie_word_embeddings": False}),
    "gemma3": Family(
        "Gemma-3, text and multimodal",
        "gemma3_text",
        {"head_dim": 32, "query_pre_attn_scalar": 24, "rope_scaling": {"rope_type": "linear", "factor": 8.0}, **MIXED},
        0.15,
    ),
    "mixtral": Family("Mixtral", "mixtral", {"num_local_experts": 4, "sliding_window": None}),
    "llama2": Family("Llama-2, Yi, SmolLM2, R1-Distill-Llama", "llama", {"num_key_value_heads": 4}),
    "llama31": Family(
        "Llama-3.1, Llama-3.2, Falcon3",
        "llama",
        {
            "tie_word_embeddings": True,
            "rope_scaling": {
                **{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
                "original_max_position_embeddings": 256,
            },
        },
    ),
    "mistral_v1": Family("Mistral-7B-v0.1, Zephyr", "mistral", {"sliding_window": 16}),
    "mistral_v3": Family("Mistral-7B-v0.2, v0.3", "mistral", {"sliding_window": None, "rope_theta": 1e6}),
    "qwen25": Family("Qwen2, Qwen2.5, R1-Distill-Qwen", "qwen2"),
    "qwen3_moe": Family(
        "Qwen3-MoE",
        "qwen3_moe",
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "head_dim": 32},
    ),
    "phi35": Family(
        "Phi-3.5-mini, Phi-4-mini",
        "phi3",
        {"partial_rotary_factor": 0.5, "original_max_position_embeddings": 64, "rope_scaling": LONG, **WIDE},
    ),
    "olmo2": Family("OLMo-2", "olmo2"),
    "olmo3": Family("OLMo-3", "olmo3", MIXED),
    "granite": Family(
        "Granite-3",
        "granite",
        {
            **{"attention_multiplier": 0.2, "logits_scaling": 0.5},
            **{"residual_multiplier": 0.22, "embedding_multiplier": 3.0},
        },
    ),
    "smollm3": Family("SmolLM3", "smollm3", {"no_rope_layers": [1, 0]}),
    "stablelm": Family(
        "StableLM-2",
        "stablelm",
        {"use_parallel_residual": False, "use_qkv_bias": True, "partial_rotary_factor": 0.5, **WIDE},
    ),
    "stablelm_12b": Family("StableLM-2-12B", "stablelm", {"use_parallel_residual": True, "qk_layernorm": True}),
    "cohere": Family("Command R, Aya-23", "cohere", {"use_qk_norm": True, "logit_scale": 0.8}, 0.15),
    "nemotron": Family("Nemotron-4, Minitron", "nemotron", {"head_dim": 32}, 0.15),
    "glm4": Family("GLM-4-0414", "glm4", {"head_dim": 32}, 0.2),
    "exaone4": Family("EXAONE-4", "exaone4", MIXED),
    "gemma": Family("Gemma", "gemma", {"head_dim": 32}, 0.15),
    "gpt_oss": Family(
        "gpt-oss, in 16 bits", "gpt_oss", {"num_local_experts": 4, "head_dim": 16, "rope_scaling": YARN, **MIXED}
    ),
    "gpt_neox": Family("Pythia, GPT-NeoX", "gpt_neox", {"rotary_pct": 0.5, "use_parallel_residual": True}),
    "gpt2": Family("GPT-2", "gpt2"),
    "falcon": Family("Falcon", "falcon", {"alibi": False, "new_decoder_architecture": True}),
    "phi": Family("Phi-1.5, Phi-2", "phi", {"partial_rotary_factor": 0.5, "num_key_value_heads": 4}),
    "helium": Family("Helium", "helium", {"head_dim": 16}),
    "arcee": Family("Arcee AFM", "arcee"),
    "olmo": Family("OLMo", "olmo", {}, 0.15),
    "glm": Family("GLM-4, GLM-Edge", "glm", {"head_dim": 32}),
    "opt": Family("OPT", "opt"),
    "gptj": Family("GPT-J", "gptj", {"rotary_dim": 8}),
}
BY_DEFAULT = 6
