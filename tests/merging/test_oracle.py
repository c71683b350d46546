"""Our merges against mergekit's, in float32, where MERGEKIT_PYTHON names the Python of an environment that has it."""

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM

from safety_tax.core.tensor_files import Checkpoint
from safety_tax.donors.opening import open_donor
from safety_tax.merging.merge import Ingredients, copy_companions, merge
from safety_tax.merging.methods import RECIPE_TYPES
from safety_tax.merging.resume import WorkFolder

PYTHON = os.environ.get("MERGEKIT_PYTHON")
pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(not PYTHON, reason="MERGEKIT_PYTHON names no Python that has mergekit"),
]
NAMES = ("one", "two")
WEIGHTS = dict(zip(NAMES, (1.0, 0.6), strict=True))


@pytest.fixture(scope="module")
def folders(tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base and two LoRA donors, as full checkpoints and as task vectors alone (`vector_...`)."""
    base = tiny_models["tiny_mistral"]
    root = tmp_path_factory.mktemp("oracle")
    folders = {"base": base}
    original = Checkpoint(base)
    for seed, name in enumerate(NAMES):
        torch.manual_seed(seed)
        lora = LoraConfig(r=8, lora_alpha=4, target_modules="all-linear", init_lora_weights=False)
        tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora).merge_and_unload()
        folders[name] = root / name
        tuned.save_pretrained(folders[name])
        stored = Checkpoint(folders[name])
        vector = folders[f"vector_{name}"] = root / f"vector_{name}"
        vector.mkdir()
        copy_companions(base, vector)
        vectors = {key: stored.read(key) - original.read(key) for key in original.names()}
        save_file(vectors, vector / "model.safetensors", {"format": "pt"})
    return folders


def theirs(folder: Path, config: dict[str, Any]) -> Checkpoint:
    """mergekit's result."""
    assert PYTHON
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"dtype": "float32"}), encoding="utf-8")
    program = str(Path(PYTHON).parent / "mergekit-yaml")
    done = subprocess.run(
        [program, "config.yaml", "out", "--no-copy-tokenizer"],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Checkpoint(folder / "out")


def models(folders: dict[str, Path], prefix: str = "", **parameters: Any) -> list[dict[str, Any]]:
    return [
        {"model": str(folders[prefix + name]), "parameters": {"weight": WEIGHTS[name], **parameters}} for name in NAMES
    ]


def ours(folders: dict[str, Path], folder: Path, method: str, **parameters: Any) -> Checkpoint:
    base = Checkpoint(folders["base"])
    donors = [open_donor(folders[name], base) for name in NAMES]
    recipe = RECIPE_TYPES[method].model_validate({"method": method, "donors": WEIGHTS, **parameters})
    work = WorkFolder(folder / "ours", "key")
    merge(Ingredients(base, donors, recipe), work)
    return Checkpoint(work.model)


def difference(one: Checkpoint, other: Checkpoint) -> float:
    assert one.names() == other.names()
    return max(float(np.max(np.abs(one.read(name) - other.read(name)))) for name in one.names())


CASES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("linear", {}, {}, {}),
    ("task_arithmetic", {"scale": 0.7}, {"lambda": 0.7}, {}),
    ("ties", {"scale": 0.7, "density": 0.4}, {"lambda": 0.7}, {"density": 0.4}),
    ("ties", {"density": 0.4, "normalize": False}, {"normalize": False}, {"density": 0.4}),
    ("breadcrumbs", {"density": 0.6, "gamma": 0.05}, {}, {"density": 0.6, "gamma": 0.05}),
]


@pytest.mark.parametrize(("method", "our", "their", "of_each"), CASES)
def test_the_same_merge_is_the_same(
    method: str,
    our: dict[str, Any],
    their: dict[str, Any],
    of_each: dict[str, Any],
    folders: dict[str, Path],
    tmp_path: Path,
) -> None:
    config: dict[str, Any] = {"merge_method": method, "models": models(folders, **of_each), "parameters": their}
    if method != "linear":
        config["base_model"] = str(folders["base"])
    assert difference(ours(folders, tmp_path, method, **our), theirs(tmp_path, config)) <= 1e-6


def test_slerp_is_theirs_between_task_vectors(folders: dict[str, Path], tmp_path: Path) -> None:
    """mergekit is given the task vectors as models, since ours goes between those; the base is added after."""
    config = {
        "merge_method": "slerp",
        "base_model": str(folders["vector_one"]),
        "models": [{"model": str(folders["vector_one"])}, {"model": str(folders["vector_two"])}],
        "parameters": {"t": 0.3},
    }
    expected, base = theirs(tmp_path, config), Checkpoint(folders["base"])
    donors = [open_donor(folders[name], base) for name in NAMES]
    recipe = RECIPE_TYPES["slerp"].model_validate({"method": "slerp", "donors": dict.fromkeys(NAMES, 1.0), "t": 0.3})
    work = WorkFolder(tmp_path / "ours", "key")
    merge(Ingredients(base, donors, recipe), work)
    found = Checkpoint(work.model)
    off = [np.max(np.abs(found.read(name) - (base.read(name) + expected.read(name)))) for name in base.names()]
    assert max(off) <= 1e-6


def test_dare_differs_in_its_rescale_and_agrees_in_the_mean(folders: dict[str, Path], tmp_path: Path) -> None:
    """Ours divides by the density, theirs restores the L1 norm: the same in the mean over entries."""
    base = Checkpoint(folders["base"])
    config = {
        "merge_method": "dare_linear",
        "base_model": str(folders["base"]),
        "models": models(folders, density=0.5),
    }
    dropped = [ours(folders, tmp_path, "dare_linear", density=0.5), theirs(tmp_path, config)]
    whole = ours(folders, tmp_path / "whole", "task_arithmetic")

    def along(checkpoint: Checkpoint) -> float:
        """Length of the change along the undropped one: 1 in the mean over seeds."""
        pairs = [(checkpoint.read(n) - base.read(n), whole.read(n) - base.read(n)) for n in base.names()]
        return float(sum(np.vdot(a, b) for a, b in pairs) / sum(np.vdot(b, b) for _, b in pairs))

    assert [along(checkpoint) for checkpoint in dropped] == pytest.approx([1, 1], abs=0.03)
