"""Keys that the pinned class does not read: which decide nothing, by name, by value or by what the source shows."""

from typing import Any

import pytest
from transformers import LlamaConfig, Qwen3Config

from safety_tax.core.errors import PipelineError
from safety_tax.model_files.unknown_keys import known_keys, require_known_keys


def test_what_a_class_reads_is_known() -> None:
    llama = known_keys("llama")
    assert llama is not None
    assert set(LlamaConfig().to_dict()) <= llama
    assert {"rope_scaling", "original_max_position_embeddings", "head_dim"} <= llama
    assert "self" not in llama and "kwargs" not in llama
    qwen3 = known_keys("qwen3")
    assert qwen3 is not None and set(Qwen3Config().to_dict()) <= qwen3


def test_of_a_family_that_is_not_there_nothing_is_said() -> None:
    assert known_keys("no_such_family") is None
    require_known_keys({"model_type": "no_such_family", "anything": 1}, "m")
    require_known_keys({"anything": 1}, "m")


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("llama", {"_name_or_path": "x", "transformers_version": "5.0", "residual_dropout": 0.1, "use_flash_attn": 1}),
        ("llama", {"logit_scale": None, "some_new_norm": None}),  # a null decides nothing
        ("llama", {"logit_scale": 1, "residual_multiplier": 1.0, "use_mrope": False, "is_causal": True}),
        ("llama", {"use_qk_norm": False, "use_rms_norm": True}),  # as its source has it
        ("qwen3", {"use_qk_norm": True}),
        ("gptj", {"use_rms_norm": False}),  # whose source speaks of another family's norm in a comment
        ("llama", {"qkv_bias": True, "o_proj_bias": False}),  # the tensors show it
        ("llama", {"hidden_activation": "silu", "activation_function": "swiglu"}),
        ("gpt2", {"hidden_act": "gelu_pytorch_tanh"}),
        ("gemma2", {"hidden_act": "gelu_pytorch_tanh"}),
        # As published: Google's files name a cache, OpenAI's the length before the rotation was stretched.
        ("gemma2", {"cache_implementation": "hybrid", "sliding_window": 4096, "sliding_window_size": 4096}),
        ("falcon", {"apply_residual_connection_post_layernorm": False}),
        ("gpt2", {"output_past": True, "n_ctx": 1024}),
        ("gemma3_text", {"cache_implementation": "hybrid", "sliding_window_pattern": 6}),
        ("gpt_oss", {"initial_context_length": 4096, "experts_per_token": 4, "num_experts_per_tok": 4}),
        ("gptj", {"rotary": True, "scale_attn_weights": True, "rotary_dim": 64}),
        ("llama", {"max_new_tokens": 512, "stop_strings": ["x"], "min_p": 0.1, "repetition_penalty": 1.1}),
        ("llama", {"keys_to_ignore_at_inference": ["past_key_values"], "max_model_len": 4096, "axolotl_config": "x"}),
    ],
)
def test_a_key_that_decides_nothing_is_no_fault(kind: str, keys: dict[str, Any]) -> None:
    require_known_keys({"model_type": kind, **keys}, "m")


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("llama", "logit_scale", 2),
        ("llama", "logit_scale", True),  # to Python that is 1
        ("llama", "use_mrope", 0),  # and this is False
        ("llama", "use_qk_norm", True),
        ("llama", "rotary", False),
        ("gemma2", "sliding_window_size", 4096),  # beside another sliding_window, the class's own
        ("falcon", "apply_residual_connection_post_layernorm", True),
        ("llama", "rotary_scaling_factor", 2.0),
        ("qwen3", "use_qk_norm", False),
        ("llama", "use_rms_norm", False),
        ("nemotron", "use_rms_norm", True),
        ("llama", "logits_bias", 0.5),  # no flag: a number that is added
        ("llama", "hidden_activation", "gelu"),
        ("llama", "attention_multiplier", 0.5),
    ],
)
def test_a_key_that_may_decide_results_is_shown_with_its_value(kind: str, key: str, value: Any) -> None:
    with pytest.raises(PipelineError) as raised:
        require_known_keys({"model_type": kind, "hidden_size": 8, key: value}, "config.json of 'm'")
    assert str(raised.value) == (
        f"Expected keys in config.json of 'm' that the pinned Transformers reads for {kind!r}, found {key!r} = "
        f"{str(value)!r}, which it would leave out of the computation; choose another model or commit, or give it as a "
        "folder without that key if it decides nothing."
    )
