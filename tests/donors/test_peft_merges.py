"""Adapters whose update is no product of two matrices: a task vector is what PEFT's own merge makes of the base."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from peft import LoraConfig, PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from test_peft_adapters import SIZES, configure, refusal, rewrite, save
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from safety_tax.core.tensor_files import Checkpoint
from safety_tax.donors.adapter_settings import MERGED_BY_PEFT
from safety_tax.donors.fetching import bring_donor
from safety_tax.donors.opening import open_donor
from safety_tax.donors.peft_adapter import PeftAdapter
from safety_tax.merging.ahead import in_order
from safety_tax.settings.sources import FolderSource

TWO = ["q_proj", "down_proj"]
# What each kind wants beside its defaults, on layers of width 16 and 24.
KINDS: dict[str, dict[str, Any]] = {
    "ADALORA": {"init_r": 4, "target_r": 2, "total_step": 10, "target_modules": TWO},
    "BOFT": {"boft_block_size": 4, "target_modules": ["q_proj"]},
    "C3A": {"block_size": 4, "target_modules": ["q_proj"]},
    "DELORA": {"r": 2, "target_modules": TWO},
    "FOURIERFT": {"n_frequency": 20, "target_modules": TWO},
    "GLORA": {"r": 2, "target_modules": TWO},
    "GRALORA": {"r": 4, "gralora_k": 2, "target_modules": ["q_proj"]},
    "HIRA": {"r": 2, "target_modules": TWO},
    "HRA": {"r": 2, "target_modules": TWO},
    "IA3": {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    "LN_TUNING": {"target_modules": ["input_layernorm", "norm"]},
    "LOHA": {"r": 2, "alpha": 4, "target_modules": TWO},
    "LOKR": {"r": 2, "alpha": 4, "target_modules": TWO},
    "MISS": {"r": 4, "target_modules": ["q_proj"]},
    "OFT": {"oft_block_size": 4, "target_modules": ["q_proj"]},
    "PVERA": {"r": 4, "target_modules": ["q_proj"]},
    "RANDLORA": {"r": 4, "target_modules": TWO},
    "ROAD": {"group_size": 4, "target_modules": ["q_proj"]},
    "SHIRA": {"r": 2, "target_modules": TWO},
    "TINYLORA": {"target_modules": ["q_proj"]},
    "TRAINABLE_TOKENS": {"token_indices": [1, 2], "target_modules": ["embed_tokens"]},
    "UNILORA": {"r": 2, "target_modules": ["q_proj"]},
    "VBLORA": {"r": 2, "num_vectors": 16, "vector_length": 8, "target_modules": TWO},
    "VERA": {"r": 4, "target_modules": ["q_proj"]},
    "WAVEFT": {"n_frequency": 20, "target_modules": TWO},
}
DORA = {"r": 2, "lora_alpha": 6, "target_modules": TWO, "use_dora": True}
CASES = [(kind, settings) for kind, settings in KINDS.items()]
CASES += [("LORA", DORA), ("LORA", DORA | {"modules_to_save": ["lm_head"]}), ("LORA", DORA | {"use_rslora": True})]
CASES += [("LORA", DORA | {"target_modules": r".*(q|v)_proj", "rank_pattern": {"v_proj": 3}})]
CASES += [("VERA", KINDS["VERA"] | {"save_projection": False})]
CASES += [("LOKR", KINDS["LOKR"] | {"decompose_both": True, "decompose_factor": 4})]


def made(kind: str, settings: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.PEFT_TYPE_TO_CONFIG_MAPPING[kind](**settings)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers, biases in them, the head a tensor of its own."""
    torch.manual_seed(5)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=False, attention_bias=True))
    for value in model.parameters():
        value.data = value.data * 8 if value.ndim == 2 else value.data + 0.3 * torch.randn_like(value)
    folder = tmp_path_factory.mktemp("merges") / "base"
    model.save_pretrained(folder)
    return folder


def weights(model: Any) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in model.named_parameters()}


def require_peft_merge(base: Path, donor: Path) -> list[str]:
    """Each tensor is what `merge_and_unload` makes of it; returns the names of those that it changes."""
    before = weights(AutoModelForCausalLM.from_pretrained(base))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), donor).merge_and_unload()
    opened = open_donor(donor, Checkpoint(base))
    changed = []
    for name, wanted in weights(merged).items():
        np.testing.assert_allclose(opened.whole(name), wanted, rtol=1e-6, atol=1e-6, err_msg=name)
        if not np.array_equal(wanted, before[name]):
            changed.append(name)
            np.testing.assert_allclose(opened.delta(name), wanted - before[name], rtol=1e-6, atol=1e-6, err_msg=name)
            np.testing.assert_array_equal(opened.delta(name), opened.delta(name))
    assert changed and set(changed) <= set(opened.names())
    return changed


def test_every_kind_that_peft_is_let_merge_is_shown_here() -> None:
    assert KINDS.keys() == MERGED_BY_PEFT


@pytest.mark.parametrize(("kind", "settings"), CASES, ids=str)
def test_a_task_vector_is_what_peft_merges(kind: str, settings: dict[str, Any], base: Path, tmp_path: Path) -> None:
    donor = save(base, tmp_path / "donor", made(kind, settings))
    assert require_peft_merge(base, donor)


def test_biases_that_a_merge_scales_are_among_the_changes(base: Path, tmp_path: Path) -> None:
    changed = require_peft_merge(base, save(base, tmp_path / "donor", made("IA3", KINDS["IA3"])))
    assert "model.layers.1.self_attn.k_proj.bias" in changed


def test_dora_of_weights_that_are_stored_inputs_first(tmp_path: Path) -> None:
    torch.manual_seed(5)
    config = GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=64)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "base")
    settings = made("LORA", DORA | {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True})
    assert len(require_peft_merge(tmp_path / "base", save(tmp_path / "base", tmp_path / "donor", settings))) == 4


def test_a_fetched_adapter_keeps_its_files_and_takes_no_memory_for_the_base(base: Path, tmp_path: Path) -> None:
    donor = save(base, tmp_path / "donor", made("LORA", DORA))
    (tmp_path / "fetched").mkdir()
    source = FolderSource(kind="folder", path=str(donor))
    assert bring_donor(source, "safety", base, tmp_path / "fetched") == 2 * 3  # q_proj has a bias
    assert {file.name for file in (tmp_path / "fetched").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    opened = open_donor(tmp_path / "fetched", Checkpoint(base))
    assert isinstance(opened, PeftAdapter)
    for name in opened.names():
        opened.delta(name)
        held = {key: value for key, value in opened._network.named_parameters() if "lora_" not in key}
        assert all(value.untyped_storage().nbytes() == 4 for value in held.values()) and len(held) > 20


def test_tensors_are_the_same_merged_on_several_threads(base: Path, tmp_path: Path) -> None:
    opened = open_donor(save(base, tmp_path / "donor", made("IA3", KINDS["IA3"])), Checkpoint(base))
    alone = {name: opened.whole(name) for name in opened.names()}
    for _ in range(5):
        together = in_order(opened.whole, dict.fromkeys(alone, 1), most=100, workers=8)
        assert all(np.array_equal(one, other) for one, other in zip(together, alone.values(), strict=True))


def test_an_adapter_of_bfloat16_on_a_base_of_bfloat16_is_merged_in_float32(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(folder)
    donor = save(folder, tmp_path / "donor", made("LORA", DORA))
    wide = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = weights(PeftModel.from_pretrained(wide, donor).merge_and_unload())
    opened = open_donor(donor, Checkpoint(folder))
    for name in opened.names():
        np.testing.assert_allclose(opened.whole(name), wanted[name], rtol=1e-6, atol=1e-6, err_msg=name)


WITHOUT = {
    "PROMPT_TUNING": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
    "PREFIX_TUNING": PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
}


@pytest.mark.parametrize("kind", WITHOUT)
def test_a_kind_that_changes_no_weight_is_refused_by_name(kind: str, base: Path, tmp_path: Path) -> None:
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), WITHOUT[kind]).save_pretrained(tmp_path / "donor")
    sentence = refusal(base, tmp_path / "donor")
    assert f"found peft_type {kind}, which adds to a model and has no merge; choose" in sentence


def test_what_peft_would_not_merge_or_not_bear_is_refused(base: Path, tmp_path: Path) -> None:
    donor = save(base, tmp_path / "loha", made("LOHA", KINDS["LOHA"]))
    good = configure(donor).joinpath("adapter_config.json").read_bytes()
    for change, words in [
        ({"r": 10**9}, "found '1000000000'"),
        ({"rank_pattern": {"q_proj": 10**9}}, "rank_pattern"),
        ({"target_modules": "(a+)+b.*c*d"}, "target_modules"),
        ({"r": 3}, "that PEFT puts on the base, found"),
        ({"target_modules": ["nothing"]}, "that PEFT puts on the base, found"),
        ({"target_modules": ["q_proj"]}, "more or less: base_model.model.model.layers.0.mlp.down_proj.hada_w1_a"),
        ({"of_a_later_peft": {"on": 1}}, "found of_a_later_peft"),
    ]:
        assert words in refusal(base, configure(donor, **change)), change
        (donor / "adapter_config.json").write_bytes(good)
    open_donor(configure(donor, of_a_later_peft=None), Checkpoint(base))
    rewrite(donor, lambda content: dict(list(content.items())[1:]))
    assert "more or less" in refusal(base, donor)
    assert "bias" in refusal(base, configure(save(base, tmp_path / "hra", made("HRA", KINDS["HRA"])), bias="all"))


def test_tied_embeddings_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)).save_pretrained(tmp_path / "base")
    donor = save(tmp_path / "base", tmp_path / "donor", made("TRAINABLE_TOKENS", KINDS["TRAINABLE_TOKENS"]))
    assert "tie_word_embeddings" in refusal(tmp_path / "base", donor)
    donor = save(tmp_path / "base", tmp_path / "dora", LoraConfig(**DORA | {"modules_to_save": ["lm_head"]}))
    assert "lm_head" in refusal(tmp_path / "base", donor)
