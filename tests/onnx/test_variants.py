"""A merge by every method, laid under the base's graphs: ONNX Runtime and PyTorch compute the same model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import EXPORT, stored_as
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from safety_tax.core.tensor_files import Checkpoint
from safety_tax.donors.opening import open_donor
from safety_tax.merging.merge import Ingredients, copy_companions, merge
from safety_tax.merging.methods import RECIPE_TYPES
from safety_tax.merging.recipe import DonorRecipe, Recipe
from safety_tax.merging.resume import WorkFolder
from safety_tax.onnx.exporting import export_base
from safety_tax.onnx.linking import link_variant
from safety_tax.onnx.parity import gate_difference, pytorch_logits, worst_difference

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], list(range(20, 50)), [5, 6, 30]]
# Settings that a method has no default for.
GUIDED: dict[str, Any] = {"safety": ["first"]}
GIVEN: dict[str, dict[str, Any]] = {
    "slerp": {"t": 0.4},
    "random_mask": GUIDED | {"k": 0.5},
    "random_subspace": GUIDED | {"k": 0.5},
    "random_layers": GUIDED | {"k": 0.5, "share": 0.3},
    "safe_merge": GUIDED | {"threshold": 0.5, "share": 0.2},
    "safe_lora": GUIDED | {"threshold": 0.5},
    "resta": GUIDED | {"density": 0.5},
}
# The others need statistics that other stages collect, or take whole tensors; they write through the same code.
METHODS = sorted(
    name
    for name, kind in RECIPE_TYPES.items()
    if issubclass(kind, DonorRecipe)
    and kind.curvature_form is Recipe.curvature_form
    and kind.located_donors is Recipe.located_donors
)


@pytest.fixture(scope="module")
def based(tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Path]]:
    """Weights of a base in shards, its ONNX, and two adapters."""
    folder = tmp_path_factory.mktemp("variants")
    base = stored_as(tiny_models["tiny_llama"], folder / "base", "float32", 100_000)
    (folder / "onnx").mkdir()
    export_base(base, "float32", EXPORT, folder / "onnx")
    adapters = [folder / "first", folder / "second"]
    for seed, adapter in enumerate(adapters):
        torch.manual_seed(seed)
        lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora).save_pretrained(adapter)
    return base, folder / "onnx", adapters


@pytest.mark.parametrize("method", METHODS)
def test_a_merge_under_the_bases_graphs_is_what_pytorch_computes(
    method: str, based: tuple[Path, Path, list[Path]], tmp_path: Path
) -> None:
    base_folder, base_onnx, adapters = based
    base = Checkpoint(base_folder)
    given = {"method": method, "donors": {"first": 1.0, "second": 0.5}, **GIVEN.get(method, {})}
    recipe = RECIPE_TYPES[method].model_validate(given)
    work = WorkFolder(tmp_path / "work", "key")
    merge(Ingredients(base, [open_donor(adapter, base) for adapter in adapters], recipe), work)
    copy_companions(base_folder, work.model)
    (tmp_path / "onnx").mkdir()
    link_variant(work.model, base_onnx, tmp_path / "onnx")
    for graph in ("model.onnx", "grouped.onnx"):
        assert (tmp_path / "onnx" / graph).samefile(base_onnx / graph)
    assert gate_difference(work.model, tmp_path / "onnx", PROMPTS, on_gpu=0.2) < 1e-4
    # The gate would see another model: the base is far from this one.
    assert worst_difference(pytorch_logits(base_folder, PROMPTS), pytorch_logits(work.model, PROMPTS)) > 1e-2
