"""What a person gets for bad input to a merge: one sentence, status 1, and nothing left of a checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import real_params
from safetensors.numpy import load_file, save_file
from test_bad_input import refusal, snapshot

MODEL = "smollm2_135m"
BASE, SAFETY, UTILITY = (
    Path("models") / part for part in (f"base/{MODEL}", f"donors/{MODEL}/safety", f"donors/{MODEL}/utility")
)
Q, UP = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight"
SHAPES = {"model.embed_tokens.weight": (9, 4), Q: (4, 4), UP: (6, 4), "model.norm.weight": (4,)}
CONFIG = {"model_type": "llama", "tie_word_embeddings": True, "vocab_size": 9}
TIES = {"method": "ties", "donors": {"safety": 1.0, "utility": 1.0}, "density": 0.5}
SST = {"method": "sst", "donors": {"safety": 1.0, "utility": 1.0}, "safety": ["safety"], "curvature": "kfac", "k": 0.3}

Change = Callable[[Path], None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base, a LoRA adapter `safety`, and a full checkpoint `utility`, with which the recipe `ties` merges."""
    draw = np.random.default_rng(0)
    base = {name: draw.standard_normal(shape, dtype=np.float32) for name, shape in SHAPES.items()}
    for place, moved in ((BASE, 0.0), (UTILITY, 0.5)):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
        save_file(
            {name: tensor + moved * tensor for name, tensor in base.items()}, tmp_path / place / "model.safetensors"
        )
    (tmp_path / SAFETY).mkdir()
    module = f"base_model.model.{Q.removesuffix('.weight')}"
    lora = {
        f"{module}.lora_{side}.weight": draw.standard_normal(shape, dtype=np.float32)
        for side, shape in (("A", (2, 4)), ("B", (4, 2)))
    }
    save_file(lora, tmp_path / SAFETY / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
    (tmp_path / SAFETY / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "dvc.yaml").touch()
    recipe(TIES)(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipe(settings: dict[str, Any]) -> Change:
    """The recipe `ties` is another."""

    def apply(folder: Path) -> None:
        params = real_params()
        params["recipes"] = {"ties": settings}
        (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")

    return apply


def config(file: Path, **changes: Any) -> Change:
    """A JSON file has other values."""

    def apply(folder: Path) -> None:
        content = json.loads((folder / file).read_text(encoding="utf-8"))
        (folder / file).write_text(json.dumps(content | changes), encoding="utf-8")

    return apply


def tensors(file: Path, change: Callable[[dict[str, np.ndarray]], object]) -> Change:
    """A safetensors file has other tensors."""

    def apply(folder: Path) -> None:
        content = load_file(folder / file)
        change(content)
        save_file(content, folder / file)

    return apply


def renamed(file: Path, name: str) -> Change:
    def apply(folder: Path) -> None:
        (folder / file).rename(folder / file.with_name(name))

    return apply


def spoil(name: str, value: float) -> Callable[[dict[str, np.ndarray]], object]:
    return lambda content: np.put(content[name], 0, value)


def moved_to_layer_nine(content: dict[str, np.ndarray]) -> None:
    for key in list(content):
        content[key.replace("layers.0", "layers.9")] = content.pop(key)


WEIGHTS, ADAPTER = BASE / "model.safetensors", SAFETY / "adapter_model.safetensors"
FULL = UTILITY / "model.safetensors"
LORA_A = f"base_model.model.{Q.removesuffix('.weight')}.lora_A.weight"
# As `modules_to_save` stores it, beside a head that is the embeddings.
ALONE = {"base_model.model.model.embed_tokens.weight": np.ones((9, 4), np.float32)}
CASES: list[tuple[Change, tuple[str, ...]]] = [
    (recipe(TIES | {"donors": {}}), ("at least one donor",)),
    (recipe(TIES | {"donors": {"safety": -1.0}}), ("negative",)),
    (recipe(TIES | {"donors": {"safety": 0.0, "utility": 0.0}}), ("total must be above 0",)),
    (recipe(TIES | {"donors": {"safety": float("inf")}}), ("donors.safety", "inf")),
    (recipe(TIES | {"donors": {"safety": float("nan")}}), ("donors.safety", "nan")),
    (recipe(TIES | {"scale": float("nan")}), ("scale", "nan")),
    (recipe(TIES | {"density": 0.0}), ("density", "found 0")),
    (recipe(TIES | {"density": 1.01}), ("density", "found 1.01")),
    (recipe(TIES | {"density": float("nan")}), ("density", "nan")),
    (recipe(SST | {"k": 0.0}), ("k", "found 0")),
    (recipe(SST | {"k": 1.5}), ("k", "found 1.5")),
    (recipe(SST | {"safety": ["other"]}), ("safety names 'other'",)),
    (recipe(SST), ("needs curvature", "add kfac to curvature.forms")),
    (recipe(TIES | {"donors": {"safety": {"early": 1.0}}}), ("unknown layer range 'early'",)),
    (recipe(TIES | {"donors": {"safety": {"5-2": 1.0}}}), ("ends before it begins",)),
    (recipe(TIES | {"donors": {"safety": {"0-1": 1.0, "1-": 0.5}}}), ("layer ranges overlap",)),
    (recipe(TIES | {"donors": {"safety": {"0-2": 1.0}}}), ("layers '0-2'", "found layers 0 to 1")),
    (recipe(TIES | {"scale": 0.0}), ("equal to it",)),
    (
        recipe({"method": "task_arithmetic", "donors": {"utility": 1.0, "safety": {"1": 1.0}}}),
        ("equal to donor 'utility'",),
    ),
    (config(UTILITY / "config.json", model_type="qwen2"), ("model_type 'llama', found 'qwen2'",)),
    (config(UTILITY / "config.json", tie_word_embeddings=False), ("tie_word_embeddings",)),
    (tensors(FULL, lambda content: content.pop(UP)), ("every tensor of the base", UP)),
    (tensors(FULL, lambda content: content.update({UP: np.ones((6, 5), np.float32)})), ("have the shape",)),
    (tensors(ADAPTER, moved_to_layer_nine), ("its target model.layers.9.self_attn.q_proj.weight",)),
    (config(SAFETY / "adapter_config.json", use_dora=True), ("that PEFT puts on the base", "size mismatch for")),
    (config(SAFETY / "adapter_config.json", init_lora_weights="pissa_niter_16"), ("plain LoRA", "pissa_niter_16")),
    (config(SAFETY / "adapter_config.json", init_lora_weights="OLoRA"), ("plain LoRA", "OLoRA")),
    (config(SAFETY / "adapter_config.json", peft_type="IA3"), ("settings of IA3", "lora_alpha")),
    (config(SAFETY / "adapter_config.json", init_lora_weights="lora_ga"), ("plain LoRA", "lora_ga")),
    (config(SAFETY / "adapter_config.json", of_a_later_peft=[1]), ("plain LoRA", "of_a_later_peft")),
    (config(SAFETY / "adapter_config.json", r=4), ("have rank 4",)),
    (config(UTILITY / "config.json", rope_theta=500000.0), ("rope_theta 10000.0, found 500000.0", "may_differ")),
    (config(UTILITY / "config.json", quantization_config={"quant_method": "fp8"}), ("quantised by fp8",)),
    (tensors(ADAPTER, lambda content: content.update(ALONE)), ("model.embed_tokens.weight", "tie_word_embeddings")),
    (tensors(WEIGHTS, spoil(UP, np.nan)), ("NaN or infinity", UP, "base")),
    (tensors(FULL, spoil("model.norm.weight", -np.inf)), ("NaN or infinity", "model.norm.weight", "utility")),
    (tensors(ADAPTER, spoil(LORA_A, np.inf)), ("NaN or infinity", Q, "safety")),
    (renamed(ADAPTER, "adapter_model.bin"), ("pickled adapter_model.bin", "save the donor as safetensors")),
    (renamed(FULL, "pytorch_model.bin"), ("pickled pytorch_model.bin", "save the donor as safetensors")),
    (renamed(SAFETY / "adapter_config.json", "config.txt"), ("a donor in", "found neither")),
]


@pytest.mark.parametrize(("change", "words"), CASES, ids=[words[0] for _, words in CASES])
def test_bad_input_to_a_merge_is_one_sentence_and_leaves_nothing(
    change: Change,
    words: tuple[str, ...],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(folder)
    before = snapshot(folder)
    sentence = refusal(f"merge {MODEL} ties", monkeypatch, capsys)
    assert all(word in sentence for word in words), sentence
    assert sentence.count("\n") == 1 and "Traceback" not in sentence
    assert snapshot(folder) == before
