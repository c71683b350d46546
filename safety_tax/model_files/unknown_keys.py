"""Keys of a config.json that the pinned Transformers does not read: harmless ones, and those that decide results.

A class of the pinned version leaves an unknown key unread, without a word. A key that is not on the lists below is
taken for a part of the model's function, which the pinned version would compute without it.
"""

import inspect
import re
from functools import cache
from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

from safety_tax.core.errors import PipelineError

# Read by the networks of the pinned version, though not named in every class's signature.
READ_BESIDE = frozenset({"rope_scaling", "head_dim", "original_max_position_embeddings", "model_type"})
# Of training, of who saved the file, and of other programs.
BOOKKEEPING = re.compile(
    r"""_.*|.*unsloth.*|.*mergekit.*|.*version.*|transformers\.js_config|is_llama_config|architecture
    |.*(dropout|pdrop|_drop)(_.*)?|.*initializer.*|init_.*|.*_init|.*_init_(std|method|range)|.*(loss|z_loss)(_.*)?
    |.*flash.*|attn_implementation|(torch_)?dtype|.*_dtype|use_cache|gradient_checkpointing|pretraining_tp|ep_size|tp_size
    |tokenizer_.*|.*_token|.*_tokens?_ids?|max_sequence_length|max_seq_len(gth)?|seq_length|seq_len|n_ctx|model_max_length
    |training_.*|train_.*|.*license.*|.*_date|date|name|author|tags|language|datasets?|task|finetuned_from|base_model
    |auto_map|summary_.*|label_.*|.*_labels|use_bfloat16|use_fused_.*|fused_.*|use_liger.*|padding_side|pad_vocab.*
    |pad_to_multiple_of|.*parallel_(size|degree)|use_memory_efficient_attention|xla_.*|rescale_every|scan_layers""",
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
    "is_causal": (True,),
    "causal": (True,),
    "qk_layernorm": (False,),
    "use_qk_norm": (False,),
    "qk_norm": (False,),
    "use_rms_norm": (True,),
    "rms_norm": (True,),
    "parallel_attn": (False,),
    "use_parallel_residual": (False,),
    "alibi": (False,),
    "use_alibi": (False,),
    "logit_scale": (1,),
    "logits_scaling": (1,),
    "embedding_multiplier": (1,),
    "residual_multiplier": (1,),
    "use_mup": (False,),
    "activation": ("swiglu", "silu"),
    "hidden_activation": ("silu",),
    "attention_type": ("full", "full_attention"),
}
# The tensors show whether there are biases, and the network's shapes are compared with them.
SHOWN_BY_TENSORS = re.compile(r".*bias")


def require_known_keys(config: dict[str, Any], where: str) -> None:
    """Raises PipelineError when a key may decide results and the pinned version's class does not read it.

    A null decides nothing. Of a type that the pinned version does not have at all, nothing is said here.
    """
    known = known_keys(str(config.get("model_type")))
    if known is None:
        return
    for key in sorted(config.keys() - known):
        if _harmless(key, config[key]):
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
    named = [
        set(inspect.signature(made.__init__).parameters) for made in (CONFIG_MAPPING[model_type], PretrainedConfig)
    ]
    return frozenset.union(READ_BESIDE, *named, PretrainedConfig().to_dict()) - {"self", "kwargs"}


def _harmless(key: str, value: Any) -> bool:
    if value is None or BOOKKEEPING.fullmatch(key):
        return True
    flag = isinstance(value, bool)  # to Python it is an int, too: 1 is not True here
    neutral = any(value == known and flag == isinstance(known, bool) for known in NEUTRAL.get(key, ()))
    return neutral or (flag and SHOWN_BY_TENSORS.fullmatch(key) is not None)
