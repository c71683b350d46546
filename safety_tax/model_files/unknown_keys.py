"""Keys of a config.json that the pinned Transformers does not read: harmless ones, and those that decide results.

A class of the pinned version leaves an unknown key unread, without a word. A key that is not on the lists below is
taken for a part of the model's function, which the pinned version would compute without it.
"""

import inspect
import re
from functools import cache
from typing import Any

from transformers import CONFIG_MAPPING, GenerationConfig, PretrainedConfig

from safety_tax.core.errors import PipelineError
from safety_tax.model_files.class_source import source_of

# Read by networks of the pinned version that say so in their source, though not in their class's signature.
READ_BESIDE = ("rope_scaling", "head_dim")
# What a class takes although its signature does not name it.
TAKEN = re.compile(r"""kwargs\.(?:get|pop)\(["'](\w+)""")
# Of training, of who saved the file, and of other programs.
BOOKKEEPING = re.compile(
    r"""_.*|.*unsloth.*|.*mergekit.*|.*version.*|transformers\.js_config|is_llama_config|architecture
    |.*(dropout|pdrop|_drop)(_.*)?|.*initializer.*|init_.*|.*_init|.*_init_(std|method|range)|.*(loss|z_loss)(_.*)?
    |.*flash.*|attn_implementation|(torch_)?dtype|.*_dtype|use_cache|gradient_checkpointing|pretraining_tp|ep_size|tp_size
    |tokenizer_.*|.*_token|.*_tokens?_ids?|max_sequence_length|max_seq_len(gth)?|seq_length|seq_len|n_ctx|model_max_length
    |training_.*|train_.*|.*license.*|.*_date|date|name|author|tags|language|datasets?|task|finetuned_from|base_model
    |auto_map|summary_.*|label_.*|.*_labels|use_bfloat16|use_fused_.*|fused_.*|use_liger.*|padding_side|pad_vocab.*
    |pad_to_multiple_of|.*parallel_(size|degree)|use_memory_efficient_attention|xla_.*|rescale_every|scan_layers
    |max_model_len|output_past|initial_context_length|keys_to_ignore_.*|axolotl.*|llamafactory.*|model_(name|id)|hub_.*""",
    re.VERBOSE,
)
# Keys with a value under which the network is the one that the pinned class computes.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "partial_rotary_factor": (1,),
    "rotary_pct": (1,),
    "rotary_percent": (1,),
    "rope_interleaved": (False,),
    "rotary_interleaved": (False,),
    "use_mrope": (False,),
    "use_rope": (True,),
    "use_rotary_embeddings": (True,),
    "rotary": (True,),
    "scale_attn_weights": (True,),
    "reorder_and_upcast_attn": (False,),
    "rotary_scaling_factor": (1,),
    "apply_residual_connection_post_layernorm": (False,),
    "is_causal": (True,),
    "causal": (True,),
    "parallel_attn": (False,),
    "use_parallel_residual": (False,),
    "alibi": (False,),
    "use_alibi": (False,),
    "logit_scale": (1,),
    "logits_scaling": (1,),
    "embedding_multiplier": (1,),
    "residual_multiplier": (1,),
    "use_mup": (False,),
    "attention_type": ("full", "full_attention"),
    "full_attn_mod": (1,),
    "interpolate_factor": (1,),
}
# Keys that repeat another one, which the class reads.
SAID_TWICE = {"sliding_window_size": "sliding_window", "experts_per_token": "num_experts_per_tok"}
# Constants of the pinned version's network, which a newer class reads from its file.
CONSTANTS: dict[str, dict[str, float]] = {"gpt_oss": {"swiglu_alpha": 1.702, "swiglu_limit": 7.0}}
# What the network's source, in the pinned version, shows to be there or not.
SHOWN_BY_SOURCE = {
    **dict.fromkeys(("qk_layernorm", "use_qk_norm", "qk_norm"), re.compile(r"\b[qk]_(layer)?norm\b")),
    **dict.fromkeys(("use_rms_norm", "rms_norm"), re.compile(r"self\.\w+ = \w*RMSNorm\(")),
}
# One thing by several names. What the class computes is under the name that it reads, or its default.
ACTIVATION = ("hidden_act", "hidden_activation", "activation_function", "activation")
SAME_ACTIVATION = {"swiglu": "silu", "gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new"}
# The tensors show whether there are biases, and the network's shapes are compared with them.
SHOWN_BY_TENSORS = re.compile(r".*bias")


def require_known_keys(config: dict[str, Any], where: str) -> None:
    """Raises PipelineError when a key may decide results and the pinned version's class does not read it.

    A null decides nothing. Of a type that the pinned version does not have at all, nothing is said here.
    """
    kind = str(config.get("model_type"))
    known = known_keys(kind)
    if known is None:
        return
    unknown = sorted(key for key in config.keys() - known if not _harmless(key, config, kind))
    computed = _computed({key: config[key] for key in config.keys() & known}) if unknown else {}
    for key in unknown:
        if key in computed and computed[key] == config[key]:
            continue
        raise PipelineError(
            f"Expected keys in {where} that the pinned Transformers reads for {config['model_type']!r}, found "
            f"{key[:60]!r} = {str(config[key])[:60]!r}, which it would leave out of the computation; choose another "
            "model or commit, or give it as a folder without that key if it decides nothing."
        )


@cache
def known_keys(model_type: str) -> frozenset[str] | None:
    """What the class of a type reads, or None where the pinned version has no such type."""
    if model_type not in CONFIG_MAPPING:
        return None
    kind = CONFIG_MAPPING[model_type]
    named = [set(inspect.signature(made.__init__).parameters) for made in (kind, PretrainedConfig)]
    source = source_of(model_type)
    beside = {key for key in READ_BESIDE if f"config.{key}" in source or f'"{key}"' in source}
    beside |= set(TAKEN.findall(inspect.getsource(kind)))
    beside |= {"original_max_position_embeddings"} if "rope_scaling" in beside | named[0] else set()
    return frozenset.union(
        frozenset(beside | kind.attribute_map.keys() | {"model_type"}),
        *named,
        PretrainedConfig().to_dict(),
        GenerationConfig().to_dict(),  # how text is drawn, and kept on the way: not the network
    ) - {"self", "kwargs"}


def _computed(config: dict[str, Any]) -> dict[str, Any]:
    """What the class of a configuration makes of its keys, under names of its own; none where it makes nothing."""
    try:
        return CONFIG_MAPPING[config["model_type"]](**config).to_dict()
    except Exception:  # whatever the class of a damaged file makes of it: `empty_network` says it
        return {}


def _computed_activation(kind: str, config: dict[str, Any]) -> str | None:
    """The activation that the class computes, or None where it reads none."""
    parameters = inspect.signature(CONFIG_MAPPING[kind].__init__).parameters
    read = [config.get(key, parameters[key].default) for key in ACTIVATION if key in parameters]
    return SAME_ACTIVATION.get(str(read[0]), str(read[0])) if read else None


def _harmless(key: str, config: dict[str, Any], kind: str) -> bool:
    value = config[key]
    if value is None or BOOKKEEPING.fullmatch(key):
        return True
    if key in SAID_TWICE and value == config.get(SAID_TWICE[key]):
        return True
    if key in ACTIVATION:
        return SAME_ACTIVATION.get(str(value), str(value)) == _computed_activation(kind, config)
    flag = isinstance(value, bool)  # to Python it is an int, too: 1 is not True here
    if flag and key in SHOWN_BY_SOURCE:
        return value is (SHOWN_BY_SOURCE[key].search(source_of(kind)) is not None)
    if value == CONSTANTS.get(kind, {}).get(key):
        return True
    neutral = any(value == known and flag == isinstance(known, bool) for known in NEUTRAL.get(key, ()))
    return neutral or (flag and SHOWN_BY_TENSORS.fullmatch(key) is not None)
