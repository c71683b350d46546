"""Adapters as PEFT saves them: a task vector is what PEFT runs, or the adapter is refused by what it says of itself."""

import json
import warnings
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from peft import EvaConfig, LoraConfig, PeftModel, PsoftConfig, get_peft_model, initialize_lora_eva_weights
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.donors.adapter_settings import HARMLESS, READ
from safety_tax.donors.opening import open_donor

SIZES = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2}
TOKENS = torch.arange(1, 33).reshape(2, 16)
EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"
Tensors = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Two-layer models by whether their head is their embeddings; their logits are far from flat."""
    folders = {}
    for tied in (True, False):
        torch.manual_seed(5)
        model = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=tied))
        for value in model.parameters():
            if value.ndim == 2:
                value.data *= 8
        folders[tied] = tmp_path_factory.mktemp("bases") / ("tied" if tied else "untied")
        model.save_pretrained(folders[tied])
    return folders


def save(base: Path, folder: Path, settings: Any, **options: Any) -> Path:
    """An adapter that PEFT makes and saves, every one of its weights moved."""
    torch.manual_seed(6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings)
        for value in tuned.parameters():
            if value.requires_grad:
                value.data += 0.2 * torch.randn_like(value)
        tuned.save_pretrained(folder, **options)
    return folder


def lora(**settings: Any) -> LoraConfig:
    return LoraConfig(**{"r": 2, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"], **settings})


def logprobs(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(input_ids=TOKENS).logits.log_softmax(-1)
        return found


def merged(base: Path, donor: Path) -> Any:
    """The base with the task vector added."""
    model = AutoModelForCausalLM.from_pretrained(base)
    weights = model.state_dict()
    opened = open_donor(donor, Checkpoint(base))
    for name in opened.names():
        weights[name] += torch.from_numpy(opened.delta(name))
    return model


def apart(base: Path, donor: Path) -> float:
    """Nats between what PEFT runs and the base with the task vector added."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = logprobs(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), donor))
    assert (theirs - logprobs(AutoModelForCausalLM.from_pretrained(base))).abs().max() > 0.01
    return float((logprobs(merged(base, donor)) - theirs).abs().max())


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> Path:
    save_file(change(load_file(folder / "adapter_model.safetensors")), folder / "adapter_model.safetensors")
    return folder


def configure(folder: Path, **settings: Any) -> Path:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | settings), encoding="utf-8")
    return folder


def refusal(base: Path, donor: Path) -> str:
    with pytest.raises(PipelineError) as error:
        open_donor(donor, Checkpoint(base))
    return str(error.value)


SAME_ANYWHERE = [
    {},
    {"use_rslora": True},
    {"rank_pattern": {"down_proj": 4}, "alpha_pattern": {"layers.0.self_attn.q_proj": 3}},
    {"layers_to_transform": [1]},
    {"exclude_modules": ["model.layers.0.mlp.down_proj"]},
    {"target_modules": r".*layers\.1.*(q|v)_proj"},
    {"target_modules": "all-linear"},
    {"modules_to_save": ["norm"]},
    {"fan_in_fan_out": False, "lora_dropout": 0.1, "task_type": "CAUSAL_LM", "revision": "main"},
    *({"init_lora_weights": start} for start in (False, "gaussian", "orthogonal", "mica")),
]
SAME_UNTIED = [
    {"modules_to_save": ["embed_tokens"]},
    {"modules_to_save": ["lm_head"]},
    {"modules_to_save": ["embed_tokens", "lm_head"]},
    {"target_modules": ["q_proj", "embed_tokens"]},
    {"target_modules": ["lm_head"]},
    {"target_modules": ["q_proj", "embed_tokens", "lm_head"], "use_rslora": True},
]
SAME_TIED = [
    {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    {"modules_to_save": ["lm_head"], "ensure_weight_tying": True},
    {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True},
    {"target_modules": ["q_proj", "lm_head"], "ensure_weight_tying": True},
]
CASES = [(tied, settings) for settings in SAME_ANYWHERE for tied in (True, False)]
CASES += [(False, settings) for settings in SAME_UNTIED] + [(True, settings) for settings in SAME_TIED]


@pytest.mark.parametrize(("tied", "settings"), CASES, ids=str)
def test_a_task_vector_is_what_peft_runs(
    tied: bool, settings: dict[str, Any], bases: dict[bool, Path], tmp_path: Path
) -> None:
    assert apart(bases[tied], save(bases[tied], tmp_path / "donor", lora(**settings))) < 2e-5


def test_an_adapter_that_eva_spread_its_ranks_over_is_what_peft_runs(bases: dict[bool, Path], tmp_path: Path) -> None:
    """EVA (Paischer et al. 2024) reads activations first, and gives each module a rank of its own."""
    torch.manual_seed(7)
    settings = lora(init_lora_weights="eva", eva_config=EvaConfig(rho=2.0), target_modules="all-linear")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(bases[False]), settings)
        rows = [{"input_ids": torch.randint(1, 40, (4, 16)), "attention_mask": torch.ones(4, 16)} for _ in range(8)]
        initialize_lora_eva_weights(tuned, rows, show_progress_bar=False)
        for value in tuned.parameters():
            if value.requires_grad:
                value.data += 0.2 * torch.randn_like(value)
        tuned.save_pretrained(tmp_path)
    ranks = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))["rank_pattern"]
    assert len(set(ranks.values())) > 1
    assert apart(bases[False], tmp_path) < 2e-5


ONE_OF_TWO = [
    {"modules_to_save": ["embed_tokens"]},
    {"modules_to_save": ["lm_head"]},
    {"modules_to_save": ["embed_tokens", "lm_head"]},
    {"target_modules": ["q_proj", "embed_tokens"]},
    {"target_modules": ["q_proj", "lm_head"]},
    {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
]


@pytest.mark.parametrize("settings", ONE_OF_TWO, ids=str)
def test_what_moves_tied_embeddings_or_head_alone_is_refused_by_name(
    settings: dict[str, Any], bases: dict[bool, Path], tmp_path: Path
) -> None:
    sentence = refusal(bases[True], save(bases[True], tmp_path / "donor", lora(**settings)))
    moved = {*settings.get("modules_to_save", []), *settings.get("target_modules", [])} - {"q_proj"}
    assert all(module in sentence for module in moved) and "tie_word_embeddings" in sentence


OTHERS = [
    lora(init_lora_weights="pissa"),
    lora(init_lora_weights="pissa_niter_2"),
    lora(init_lora_weights="olora"),
    lora(init_lora_weights="lora_ga"),
    lora(use_dora=True, bias="all"),
    lora(bias="all"),
    lora(bias="lora_only"),
    lora(lora_bias=True),
    lora(trainable_token_indices=[1, 2]),
    lora(layer_replication=[(0, 2), (1, 2)]),
    lora(target_parameters=["mlp.up_proj.weight"]),
    lora(alora_invocation_tokens=[1, 2], task_type="CAUSAL_LM"),
    PsoftConfig(r=4, target_modules=["q_proj"]),
]


@pytest.mark.parametrize("settings", OTHERS, ids=lambda settings: str(type(settings).__name__))
def test_what_is_more_or_other_than_a_product_is_refused_by_its_setting(
    settings: Any, bases: dict[bool, Path], tmp_path: Path
) -> None:
    sentence = refusal(bases[False], save(bases[False], tmp_path / "donor", settings))
    plain = lora().to_dict()
    said = [
        key
        for key, value in settings.to_dict().items()
        if key != "task_type" and value != plain.get(key) and key in sentence
    ]
    assert "plain LoRA" in sentence and said, sentence


def test_every_setting_of_peft_is_read_or_harmless_or_refused(bases: dict[bool, Path], tmp_path: Path) -> None:
    donor = save(bases[False], tmp_path / "donor", lora())
    content = json.loads((donor / "adapter_config.json").read_text(encoding="utf-8"))
    assert {*READ, *HARMLESS} <= {field.name for field in fields(LoraConfig)}
    for key in {field.name for field in fields(LoraConfig)} - READ - HARMLESS | {"of_a_later_peft"}:
        for empty in (None, False, {}, []):
            open_donor(configure(donor, **{key: empty}), Checkpoint(bases[False]))
        assert key in refusal(bases[False], configure(donor, **{key: {"on": 1}}))
        configure(donor, **{key: content.get(key)})
    for start in ("corda", "loftq", "Pissa", "pissa_niter_4", "lora_ga", "of a later peft", 1):
        assert "init_lora_weights" in refusal(bases[False], configure(donor, init_lora_weights=start))
    for kind in ("PROMPT_TUNING", "LILY", "OSF", "OF_A_LATER_PEFT", None):
        assert "peft_type" in refusal(bases[False], configure(donor, peft_type=kind))


def test_a_pissa_adapter_that_peft_has_converted_is_a_plain_one(bases: dict[bool, Path], tmp_path: Path) -> None:
    torch.manual_seed(7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's own, on what it is asked to do here
        tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(bases[False]), lora(init_lora_weights="pissa"))
        tuned.peft_config["default"].init_lora_weights = True  # as PEFT's documentation saves the start
        tuned.save_pretrained(tmp_path / "start")
        tuned.peft_config["default"].init_lora_weights = "pissa"
        for key, value in tuned.named_parameters():
            if "lora_" in key:
                value.data += 0.2 * torch.randn_like(value)
        tuned.save_pretrained(tmp_path / "donor", path_initial_model_for_weight_conversion=str(tmp_path / "start"))
    assert apart(bases[False], tmp_path / "donor") < 2e-5
    assert torch.allclose(logprobs(tuned), logprobs(merged(bases[False], tmp_path / "donor")), atol=1e-4)


@pytest.mark.parametrize("kind", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("tied", [True, False])
def test_copies_of_the_base_are_ignored_in_any_float_type(
    tied: bool, kind: Any, bases: dict[bool, Path], tmp_path: Path
) -> None:
    donor = save(bases[tied], tmp_path / "donor", lora(), save_embedding_layers=True)
    copies = {f"base_model.model.{EMBEDDINGS}", f"base_model.model.{HEAD}"}
    assert copies <= load_file(donor / "adapter_model.safetensors").keys()
    rewrite(donor, lambda content: {k: v.astype(kind) if k in copies else v for k, v in content.items()})
    assert not {EMBEDDINGS, HEAD} & set(open_donor(donor, Checkpoint(bases[tied])).names())


def test_embeddings_that_are_no_copy_are_merged_where_the_head_is_another_tensor(
    bases: dict[bool, Path], tmp_path: Path
) -> None:
    key = f"base_model.model.{EMBEDDINGS}"
    donors = {}
    for tied in (True, False):
        donors[tied] = save(bases[tied], tmp_path / str(tied), lora(), save_embedding_layers=True)
        rewrite(donors[tied], lambda content: content | {key: content[key] * 1.5})
    assert apart(bases[False], donors[False]) < 2e-5
    assert EMBEDDINGS in refusal(bases[True], donors[True])


WRAPPED: dict[str, Callable[[str], str]] = {
    "compiled": lambda key: key.replace("base_model.model.", "base_model.model._orig_mod."),
    "compiled outside": lambda key: f"_orig_mod.{key}",
    "distributed": lambda key: f"module.{key}",
    "sharded": lambda key: key.replace("layers.1.", "layers.1._fsdp_wrapped_module."),
    "checkpointed": lambda key: key.replace("mlp.", "mlp._checkpoint_wrapped_module."),
    "twice": lambda key: f"base_model.model.{key}",
    "plain": lambda key: key.removeprefix("base_model.model."),
    "without a head": lambda key: key.replace("base_model.model.model.", "base_model.model."),
    "with the adapter's name": lambda key: key.replace(".weight", ".default.weight"),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_what_wraps_a_module_in_training_leaves_its_meaning(kind: str, bases: dict[bool, Path], tmp_path: Path) -> None:
    donor = save(bases[False], tmp_path / "donor", lora())
    base = Checkpoint(bases[False])
    opened = open_donor(donor, base)
    expected = {name: opened.delta(name) for name in opened.names()}
    rewrite(donor, lambda content: {WRAPPED[kind](key): value for key, value in content.items()})
    found = open_donor(donor, base)
    assert found.names() == sorted(expected)
    assert all(np.array_equal(found.delta(name), expected[name]) for name in expected)


def test_files_that_are_not_of_one_adapter_are_refused(bases: dict[bool, Path], tmp_path: Path) -> None:
    donor = save(bases[False], tmp_path / "donor", lora())
    said = json.loads((donor / "adapter_config.json").read_text(encoding="utf-8"))
    for change in ({"target_modules": ["q_proj"]}, {"layers_to_transform": [1]}, {"exclude_modules": ["down_proj"]}):
        assert "which PEFT leaves out" in refusal(bases[False], configure(donor, **change))
        configure(donor, **said)
    assert "have rank 8" in refusal(bases[False], configure(donor, r=8))
    configure(donor, **said)
    rewrite(donor, lambda content: content | {k.replace("lora_A", "lora_A.b"): v for k, v in content.items()})
    assert "Expected one adapter" in refusal(bases[False], donor)
