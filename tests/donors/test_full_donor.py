"""Full checkpoints as donors: of the base's function and vocabulary, or refused by what differs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import real_params
from safetensors.numpy import load_file, save_file

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.donors.checks import require_same_vocabulary
from safety_tax.donors.full_checkpoint import allow
from safety_tax.donors.opening import open_donor
from safety_tax.params import validated
from safety_tax.results.conditions import how_donors_differ

QUERY, EMBEDDINGS, HEAD = "model.layers.0.self_attn.q_proj.weight", "model.embed_tokens.weight", "lm_head.weight"
LLAMA = {"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 4, "num_attention_heads": 2, "vocab_size": 8}
TOKENIZER = {"model": {"type": "BPE", "vocab": {token: place for place, token in enumerate("abcdef")}}}
END = {"content": "<end>", "id": 6}
Tensors = dict[str, np.ndarray]


def write(folder: Path, config: dict[str, Any] | None = None, moved: float = 0.0) -> Path:
    """A model of six tokens and two spare rows, every weight one plus `moved`."""
    folder.mkdir()
    shapes = {EMBEDDINGS: (8, 4), HEAD: (8, 4), QUERY: (4, 4)}
    save_file({name: np.full(s, 1 + moved, np.float32) for name, s in shapes.items()}, folder / "model.safetensors")
    write_json(folder / "config.json", LLAMA | (config or {}))
    write_json(folder / "tokenizer.json", {**TOKENIZER, "added_tokens": [END]})
    return folder


def write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")


def refusal(base: Path, donor: Path, may_differ: tuple[str, ...] = ()) -> str:
    allow(donor, may_differ)
    with pytest.raises(PipelineError) as error:
        open_donor(donor, Checkpoint(base))
    return str(error.value)


DECIDING = [
    ({}, {"rope_theta": 500000.0}, "rope_theta"),
    ({"rope_theta": 10000.0}, {"rope_theta": 1000000.0}, "rope_theta"),
    ({}, {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope_scaling"),
    ({}, {"rms_norm_eps": 1e-5}, "rms_norm_eps"),
    ({}, {"hidden_act": "gelu"}, "hidden_act"),
    ({"head_dim": 2}, {"head_dim": 2, "num_attention_heads": 4}, "num_attention_heads"),
    ({}, {"num_key_value_heads": 1}, "num_key_value_heads"),
    ({}, {"head_dim": 8}, "head_dim"),
    ({}, {"attention_bias": True}, "attention_bias"),
    ({}, {"tie_word_embeddings": True}, "tie_word_embeddings"),
    ({}, {"model_type": "mistral"}, "model_type"),
    ({}, {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ({}, {"rope_of_a_later_transformers": 3}, "rope_of_a_later_transformers"),
    ({"model_type": "mistral"}, {"model_type": "mistral", "sliding_window": None}, "sliding_window"),
    ({"model_type": "mistral"}, {"model_type": "mistral", "rope_scaling": {"type": "linear", "factor": 2.0}}, "rope"),
    ({"model_type": "gemma2"}, {"model_type": "gemma2", "final_logit_softcapping": 50.0}, "final_logit_softcapping"),
    ({"model_type": "gemma2"}, {"model_type": "gemma2", "query_pre_attn_scalar": 64}, "query_pre_attn_scalar"),
    ({"model_type": "cohere"}, {"model_type": "cohere", "logit_scale": 1.0}, "logit_scale"),
    ({"model_type": "granite"}, {"model_type": "granite", "residual_multiplier": 0.2}, "residual_multiplier"),
    (
        {"model_type": "qwen2"},
        {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 0},
        "layer_types",
    ),
]


@pytest.mark.parametrize(("ours", "theirs", "key"), DECIDING, ids=[case[2] for case in DECIDING])
def test_a_setting_that_decides_what_weights_compute_may_not_differ(
    ours: dict[str, Any], theirs: dict[str, Any], key: str, tmp_path: Path
) -> None:
    base, donor = write(tmp_path / "base", ours), write(tmp_path / "donor", theirs, moved=1)
    sentence = refusal(base, donor)
    assert f"base's {key}" in sentence and str(donor / "config.json") in sentence


DYNAMIC = {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}
EQUAL: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"max_position_embeddings": 65536, "use_cache": False, "torch_dtype": "bfloat16", "_name_or_path": "x"}),
    ({}, {"bos_token_id": 7, "eos_token_id": [2, 5], "pad_token_id": 3, "transformers_version": "5.24.0"}),
    ({}, {"attention_dropout": 0.1, "initializer_range": 0.1, "id2label": {"0": "a"}, "unsloth_version": "2026"}),
    ({}, {"architectures": ["Other"], "vocab_size": 9, "num_labels": 10**9}),
    # An absent key is its class's default; a kind of scaling has had two names.
    ({}, {"rope_theta": 10000.0, "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": False}),
    ({}, {"num_key_value_heads": 2, "head_dim": 2, "attention_bias": False, "rope_scaling": None}),
    ({}, {"rope_scaling": {"rope_type": "default"}}),
    ({"rope_scaling": {"type": "linear", "factor": 2.0}}, {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    ({"model_type": "mistral"}, {"model_type": "mistral", "sliding_window": 4096, "head_dim": 2}),
    ({"model_type": "qwen2", "max_window_layers": 24}, {"model_type": "qwen2", "max_window_layers": 21}),
]


@pytest.mark.parametrize(("ours", "theirs"), EQUAL, ids=lambda config: ",".join(config) or "none")
def test_context_length_and_bookkeeping_do_not_matter(
    ours: dict[str, Any], theirs: dict[str, Any], tmp_path: Path
) -> None:
    base, donor = write(tmp_path / "base", ours), write(tmp_path / "donor", theirs, moved=1)
    assert open_donor(donor, Checkpoint(base)).delta(QUERY).tolist() == np.ones((4, 4)).tolist()


def test_context_length_matters_where_positions_are_computed_from_it(tmp_path: Path) -> None:
    base = write(tmp_path / "base", DYNAMIC)
    donor = write(tmp_path / "donor", {**DYNAMIC, "max_position_embeddings": 4096})
    assert "base's max_position_embeddings" in refusal(base, donor)


def test_where_one_alone_computes_positions_from_its_context_length_the_scaling_is_named(tmp_path: Path) -> None:
    base = write(tmp_path / "base")
    donor = write(tmp_path / "donor", {**DYNAMIC, "max_position_embeddings": 4096}, moved=1)
    assert "base's rope_scaling None" in refusal(base, donor)
    allow(donor, ["rope_scaling"])
    assert open_donor(donor, Checkpoint(base)).delta(QUERY).tolist() == np.ones((4, 4)).tolist()


def test_a_difference_that_params_allow_is_merged_and_told(tmp_path: Path) -> None:
    base, donor = write(tmp_path / "base"), write(tmp_path / "donor", {"rope_theta": 500000.0}, moved=1)
    assert "may_differ: [rope_theta]" in refusal(base, donor)
    allow(donor, ["rope_theta"])
    assert open_donor(donor, Checkpoint(base)).delta(QUERY).tolist() == np.ones((4, 4)).tolist()
    params = real_params()
    source = {"kind": "folder", "path": "none"}
    params["donors"]["utility"] = {"source": source, "may_differ": ["rope_theta"]}
    entry = validated(params)
    assert entry.may_differ() == {"donor `utility`": ["rope_theta"]}
    said = how_donors_differ({"donor `utility`": ["rope_theta", "rms_norm_eps"]})
    assert "donor `utility` may have another `rope_theta` and another `rms_norm_eps` than the base" in said
    assert how_donors_differ({}) == ""
    for key in ("tie_word_embeddings", "model_type", "Rope Theta"):
        params["donors"]["utility"] = {"source": source, "may_differ": [key]}
        with pytest.raises(PipelineError, match="may_differ"):
            validated(params)


@pytest.mark.parametrize(
    "damage",
    [
        {"model_type": "of_a_later_transformers"},
        {"model_type": ["llama"]},
        {"num_hidden_layers": 10**9},
        {"num_attention_heads": "many"},
        {"num_attention_heads": 0},
        {"rope_scaling": "x"},
        {"rope_scaling": {"rope_type": ["x"]}},
    ],
    ids=str,
)
def test_a_damaged_configuration_is_one_sentence(damage: dict[str, Any], tmp_path: Path) -> None:
    base, donor = write(tmp_path / "base"), write(tmp_path / "donor", damage)
    assert "config.json" in refusal(base, donor) and "\n" not in refusal(base, donor)


@pytest.mark.parametrize(
    ("quantisation", "words"),
    [
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "quantised by fp8"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "quantised by bitsandbytes, 4 bits"),
        ({"quant_method": "gptq", "bits": 4}, "quantised by gptq, 4 bits"),
        ({"bits": 8}, "quantised by an unnamed method, 8 bits"),
    ],
)
def test_a_quantised_donor_is_named_as_what_it_is(quantisation: dict[str, Any], words: str, tmp_path: Path) -> None:
    base, donor = write(tmp_path / "base"), write(tmp_path / "donor", {"quantization_config": quantisation})
    sentence = refusal(base, donor)
    assert words in sentence and "dequantize()" in sentence


def test_wrappers_and_computed_tensors_leave_a_donor_as_it_is(tmp_path: Path) -> None:
    base, donor = write(tmp_path / "base"), write(tmp_path / "donor", moved=1)
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(2, np.float32)}
    rewrite(donor, lambda content: {f"_orig_mod.{key}": value for key, value in (content | extra).items()})
    opened = open_donor(donor, Checkpoint(base))
    assert opened.names() == sorted((EMBEDDINGS, HEAD, QUERY))
    assert opened.delta(QUERY).tolist() == np.ones((4, 4)).tolist()
    rewrite(donor, lambda content: content | {QUERY: np.ones((4, 4), np.float32)})
    assert "once" in refusal(base, donor)
    rewrite(donor, lambda _: {QUERY.replace(".weight", ".lora_A.weight"): np.ones((2, 4), np.float32)})
    assert "an adapter at" in refusal(base, donor)
    rewrite(donor, lambda _: {QUERY.replace(".weight", ".qweight"): np.ones((2, 4), np.int32)})
    assert "a quantised weight at" in refusal(base, donor)


def test_a_head_beside_tied_embeddings_is_not_read(tmp_path: Path) -> None:
    tied = {"tie_word_embeddings": True}
    base, donor = write(tmp_path / "base", tied), write(tmp_path / "donor", tied, moved=1)
    assert open_donor(donor, Checkpoint(base)).names() == sorted((EMBEDDINGS, QUERY))
    rewrite(donor, lambda content: {key: value for key, value in content.items() if key != HEAD})
    assert open_donor(donor, Checkpoint(base)).names() == sorted((EMBEDDINGS, QUERY))


@pytest.mark.parametrize("rows", [7, 8, 9, 12])
def test_spare_rows_do_not_matter(rows: int, tmp_path: Path) -> None:
    base, donor = write(tmp_path / "base"), write(tmp_path / "donor", moved=1)
    wide = {name: np.full((rows, 4), 2, np.float32) for name in (EMBEDDINGS, HEAD)}
    rewrite(donor, lambda content: content | wide)
    delta = open_donor(donor, Checkpoint(base)).delta(HEAD)
    assert delta.tolist() == [[1.0] * 4] * min(rows, 8) + [[0.0] * 4] * (8 - min(rows, 8))
    require_same_vocabulary(base, donor)


def test_a_row_that_a_token_needs_is_missed_by_name(tmp_path: Path) -> None:
    base, donor = write(tmp_path / "base"), write(tmp_path / "donor", moved=1)
    rewrite(donor, lambda content: content | {EMBEDDINGS: np.ones((5, 4), np.float32)})
    assert "without that of 'f' (5)" in refusal(base, donor)
    (donor / "tokenizer.json").unlink()
    assert "have the shape (8, 4)" in refusal(base, donor)


def add(folder: Path, *tokens: tuple[str, int], **settings: Any) -> None:
    added = [{"content": content, "id": place} for content, place in tokens]
    write_json(folder / "tokenizer.json", {**TOKENIZER, "added_tokens": added})
    write_json(folder / "tokenizer_config.json", settings)


def test_an_added_token_matters_where_prompts_or_turns_use_it(tmp_path: Path) -> None:
    base, donor = write(tmp_path / "base"), write(tmp_path / "donor")
    add(donor, ("<end>", 6), ("<pad>", 8), eos_token="<end>", pad_token="<pad>")
    require_same_vocabulary(base, donor)
    add(donor, ("<end>", 6), ("<pad>", 7))
    require_same_vocabulary(base, donor)
    require_same_vocabulary(donor, base)
    add(donor)
    require_same_vocabulary(base, donor)
    cases = [
        (("<pad>", 6), {}),  # the row of another token
        (("f", 8), {}),  # another row for a word
        (("<turn>", 8), {"eos_token": "<turn>"}),
        (("<turn>", 8), {"eos_token": {"content": "<turn>"}}),
    ]
    for token, settings in cases:
        add(donor, token, **settings)
        with pytest.raises(PipelineError, match="base's vocabulary"):
            require_same_vocabulary(base, donor)
    add(base, ("<end>", 6), chat_template="{{ messages }}<end><turn>")
    for tokens in ([("<end>", 6), ("<turn>", 8)], [("<turn>", 8)], []):
        add(donor, *tokens)
        with pytest.raises(PipelineError, match="base's vocabulary"):
            require_same_vocabulary(base, donor)


def test_what_served_training_alone_is_named_beside_the_bases_tensors(tmp_path: Path) -> None:
    base, donor = write(tmp_path / "base"), write(tmp_path / "donor", moved=1.0)
    rewrite(donor, lambda content: content | {"v_head.summary.weight": np.zeros((1, 4), np.float32)})
    said = refusal(base, donor)
    assert "and no other, found v_head.summary.weight in " in said and "save it without that" in said


def test_the_name_of_trls_wrapper_is_taken_off(tmp_path: Path) -> None:
    base, donor = write(tmp_path / "base"), write(tmp_path / "donor", moved=1.0)
    rewrite(donor, lambda content: {f"pretrained_model.{key}": value for key, value in content.items()})
    assert open_donor(donor, Checkpoint(base)).delta(QUERY).tolist() == np.ones((4, 4)).tolist()
