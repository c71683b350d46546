"""Families other than the first three, at the gate of `fetch_model`: names, keys and models that see, too."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SIZES
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PreTrainedModel,
)

from safety_tax.core.errors import PipelineError
from safety_tax.model_files.attention import attention_of
from safety_tax.model_files.bringing import check
from safety_tax.model_files.config import translated
from safety_tax.model_files.families import exported_families
from safety_tax.sources.published import brings_code

EYES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 28}
TEXT = {key: value for key, value in SIZES.items() if not key.endswith("token_id")} | {"head_dim": 16}


def gemma3() -> PreTrainedModel:
    text = TEXT | {"sliding_window": 8, "pad_token_id": 2}
    return Gemma3ForConditionalGeneration(
        Gemma3Config(
            text_config=text, vision_config=EYES | {"patch_size": 14}, mm_tokens_per_image=4, eos_token_id=[2, 5]
        )
    )


def mistral3() -> PreTrainedModel:
    text = TEXT | {"model_type": "mistral", "sliding_window": None}
    eyes = EYES | {"model_type": "pixtral", "patch_size": 14, "head_dim": 8}
    return Mistral3ForConditionalGeneration(Mistral3Config(text_config=text, vision_config=eyes, image_token_index=9))


def logits(network: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = network.eval()(torch.arange(10, 40)[None]).logits
    return found


def rename(folder: Path, new_name: Callable[[str], str], **more: torch.Tensor) -> None:
    tensors = load_file(folder / "model.safetensors")
    named = {new_name(name): tensor for name, tensor in tensors.items()}
    save_file(named | more, folder / "model.safetensors", metadata={"format": "pt"})


def newer(name: str) -> str:
    """A tensor's name in a file of a Transformers from 4.52 on that saves it as it has it."""
    name = name.replace("language_model.model.", "model.language_model.").replace("language_model.lm_head", "lm_head")
    return f"model.{name}" if name.startswith(("vision_tower", "multi_modal")) else name


@pytest.mark.parametrize("names", ["older", "newer"])
@pytest.mark.parametrize("make", [gemma3, mistral3])
def test_the_text_model_is_taken_out_of_one_that_sees(
    make: Callable[[], PreTrainedModel], names: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = make()
    network.save_pretrained(tmp_path)
    if names == "newer":
        rename(tmp_path, newer)
    check(tmp_path, "m")
    taken = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(taken).__name__ in ("Gemma3ForCausalLM", "MistralForCausalLM")
    torch.testing.assert_close(logits(taken), logits(network), rtol=0, atol=0)
    assert not [name for name in load_file(tmp_path / "model.safetensors") if "vision" in name or "modal" in name]
    assert taken.config.eos_token_id == (network.config.eos_token_id or 2)


def test_a_file_of_the_network_without_its_head_and_with_its_masks_is_read(tmp_path: Path) -> None:
    """As GPT-2 is published: no `transformer.`, and the causal mask among the tensors."""
    torch.manual_seed(0)
    network = GPT2LMHeadModel(GPT2Config(vocab_size=600, n_embd=32, n_layer=2, n_head=2, n_positions=64))
    network.save_pretrained(tmp_path)
    mask = torch.ones(1, 1, 64, 64)
    rename(
        tmp_path, lambda name: name.removeprefix("transformer."), **{"h.0.attn.bias": mask, "h.1.attn.bias": mask + 0}
    )
    assert check(tmp_path, "m") == sum(weight.numel() for weight in network.parameters())
    assert "transformer.h.0.attn.c_attn.weight" in load_file(tmp_path / "model.safetensors")
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), logits(network), rtol=0, atol=0)


# Keys of published files that the class of their family does not take by that name.
PUBLISHED: dict[str, dict[str, Any]] = {
    "gemma2": {
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "cache_implementation": None,
    },
    "phi3": {"full_attn_mod": 1, "interpolate_factor": 1, "mlp_bias": False, "lm_head_bias": False},
    "gpt_neox": {"rotary_pct": 0.25, "partial_rotary_factor": 0.25},
    "gpt2": {"n_ctx": 1024, "activation_function": "gelu_new", "summary_type": "cls_index"},
    "qwen3": {"use_sliding_window": False, "max_window_layers": 2, "sliding_window": None, "qk_norm": True},
}


@pytest.mark.parametrize(("kind", "keys"), PUBLISHED.items(), ids=PUBLISHED)
def test_keys_of_published_files_are_known(kind: str, keys: dict[str, Any]) -> None:
    assert translated({"model_type": kind, "num_hidden_layers": 2, **keys}, "config.json of 'm'")["model_type"] == kind


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("gemma2", {"hidden_act": "silu"}),
        ("gpt_neox", {"rotary_pct": 0.25, "partial_rotary_factor": 0.5}),
        ("qwen3", {"qk_norm": False}),
        ("llama", {"qk_norm": True}),
        ("stablelm", {"rms_norm": True}),
        ("gpt2", {"head_dim": 32}),
        ("gpt2", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
        ("phi3", {"full_attn_mod": 2}),
        ("olmo2", {"final_logit_softcapping": 30.0}),
    ],
)
def test_a_key_that_the_family_computes_otherwise_is_refused(kind: str, keys: dict[str, Any]) -> None:
    with pytest.raises(PipelineError, match=f"{list(keys)[-1]}.*leave out of the computation"):
        translated({"model_type": kind, "num_hidden_layers": 2, **keys}, "config.json of 'm'")


def test_phi3_keeps_the_names_that_its_class_wants_whoever_saved_the_file() -> None:
    factors = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    sizes = {**TEXT, "model_type": "phi3", "max_position_embeddings": 2048, "original_max_position_embeddings": 512}
    older = translated({**sizes, "rope_scaling": {"type": "longrope", **factors}}, "m")
    newer = translated(
        {**sizes, "rope_parameters": {"rope_type": "longrope", "factor": 4.0, "rope_theta": 1e4, **factors}}, "m"
    )
    assert older["rope_scaling"] == newer["rope_scaling"] == {"type": "longrope", **factors}
    assert attention_of(AutoConfig.for_model(**newer)).context == 512


def test_code_is_run_for_no_family_and_refused_where_it_is_needed() -> None:
    places = {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}
    assert not brings_code({"model_type": "phi3", "auto_map": places})
    assert "auto_map" not in translated({"model_type": "phi3", "num_hidden_layers": 2, "auto_map": places}, "m")
    assert brings_code({"model_type": "phi3", "auto_map": {"AutoModelForCausalLM": "modeling.Phi9ForCausalLM"}})
    assert brings_code({"model_type": "phi9", "auto_map": places})


def test_registrations_add_to_what_optimum_exports_and_text_models_alone_are_listed() -> None:
    families = exported_families()
    assert {"mixtral", "glm4", "exaone4", "olmo3", "llama", "gemma3_text"} <= families.keys()
    assert not {"gemma3", "bart", "mbart", "whisper", "t5"} & families.keys()


def test_a_network_that_counts_tokens_itself_is_refused(tmp_path: Path) -> None:
    sizes = {"vocab_size": 600, "hidden_size": 32, "n_layer": 2, "n_head": 2}
    BloomForCausalLM(BloomConfig(**sizes)).save_pretrained(tmp_path)
    with pytest.raises(PipelineError, match="takes position_ids, found the family 'bloom' in 'm'"):
        check(tmp_path, "m")


def test_more_experts_than_tensors_are_refused_before_they_are_built(tmp_path: Path) -> None:
    config = {"model_type": "mixtral", **SIZES, "num_local_experts": 10**9}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    layers = {f"model.layers.{layer}.input_layernorm.weight": torch.ones(64) for layer in range(2)}
    save_file(layers, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PipelineError, match="num_local_experts = 1,000,000,000"):
        check(tmp_path, "m")
