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
from safety_tax.merging.bench import Bench
from safety_tax.merging.merge import Ingredients, copy_companions, merge
from safety_tax.merging.methods import RECIPE_TYPES
from safety_tax.merging.methods.given import Given
from safety_tax.merging.methods.mergekit import Mergekit
from safety_tax.merging.opening import open_merge
from safety_tax.merging.resume import WorkFolder
from safety_tax.settings.sources import FolderSource

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
        adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora)
        folders[f"adapter_{name}"] = root / f"adapter_{name}"
        adapted.save_pretrained(folders[f"adapter_{name}"])
        tuned = adapted.merge_and_unload()
        folders[name] = root / name
        tuned.save_pretrained(folders[name])
        stored = Checkpoint(folders[name])
        vector = folders[f"vector_{name}"] = root / f"vector_{name}"
        vector.mkdir()
        copy_companions(base, vector)
        vectors = {key: stored.read(key) - original.read(key) for key in original.names()}
        save_file(vectors, vector / "model.safetensors", {"format": "pt"})
    return folders


def theirs(folder: Path, config: dict[str, Any], dtype: str = "float32") -> Checkpoint:
    """mergekit's result."""
    assert PYTHON
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"dtype": dtype}), encoding="utf-8")
    program = str(Path(PYTHON).parent / "mergekit-yaml")
    done = subprocess.run(
        [program, "config.yaml", "out", "--no-copy-tokenizer", "--lora-merge-cache", "adapters"],
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


def given(folders: dict[str, Path], name: str, **parameters: Any) -> dict[str, Any]:
    return {"model": "+".join(str(folders[part]) for part in name.split("+")), "parameters": parameters}


def layers(folders: dict[str, Path], name: str, first: int, end: int, **parameters: Any) -> dict[str, Any]:
    return {"model": str(folders[name]), "layer_range": [first, end], "parameters": parameters}


# Configurations as people write them; the names of folders are put in their places.
CONFIGS: dict[str, dict[str, Any]] = {
    "linear": {"merge_method": "linear", "models": [("one", {"weight": 1.0}), ("two", {"weight": [0.3, 0.9]})]},
    "linear of the base": {
        "merge_method": "linear",
        "models": [("base", {"weight": 2}), ("two", {"weight": 1})],
        "parameters": {"normalize": False},
    },
    "slerp": {
        "merge_method": "slerp",
        "base_model": "base",
        "slices": [[("base", 0, 2, {}), ("two", 0, 2, {})]],
        "parameters": {
            "t": [{"filter": "self_attn", "value": [0, 0.8]}, {"filter": "mlp", "value": [1, 0.5]}, {"value": 0.5}]
        },
        "tokenizer_source": "base",
    },
    "slerp between task vectors": {
        "merge_method": "slerp",
        "base_model": "vector_one",
        "models": [("vector_one", {}), ("vector_two", {})],
        "parameters": {"t": 0.3},
    },
    "task_arithmetic": {
        "merge_method": "task_arithmetic",
        "base_model": "base",
        "models": [
            ("one", {"weight": [{"filter": "mlp", "value": [0.2, 1]}, {"value": -0.4}]}),
            ("two", {"weight": 0.7}),
        ],
        "parameters": {"lambda": 0.8, "normalize": True},
    },
    "task_arithmetic over another base": {
        "merge_method": "task_arithmetic",
        "base_model": "one",
        "models": [("two", {"weight": 0.6})],
    },
    "ties": {
        "merge_method": "ties",
        "base_model": "base",
        "models": [("one", {"weight": 1.0, "density": [0.3, 0.7]}), ("two", {"weight": 0.6, "density": 0.5})],
        "parameters": {"int8_mask": True, "rescale": True, "lambda": 0.7},
    },
    "ties of negative weights": {
        "merge_method": "ties",
        "base_model": "base",
        "models": [("one", {"weight": 1.0}), ("two", {"weight": -0.6})],
        "parameters": {"normalize": False},
    },
    "dare_ties of all": {
        "merge_method": "dare_ties",
        "base_model": "base",
        "models": [("base", {}), ("one", {"weight": 1.0}), ("two", {"weight": 0.6, "density": 1})],
    },
    "dare_linear of all": {"merge_method": "dare_linear", "base_model": "base", "models": [("one", {"weight": 0.5})]},
    "breadcrumbs": {
        "merge_method": "breadcrumbs",
        "base_model": "base",
        "models": [("one", {"weight": 1, "density": 0.6, "gamma": 0.05}), ("two", {"weight": 0.6, "density": 0.9})],
    },
    "breadcrumbs of less than an entry of the norms": {
        "merge_method": "breadcrumbs",
        "base_model": "base",
        "models": [("one", {"weight": 1, "density": 0.001}), ("two", {"weight": 0.6, "density": 0.9})],
    },
    "linear of an adapter": {
        "merge_method": "linear",
        "models": [("base+adapter_one", {"weight": 1.0}), ("two", {"weight": 0.5})],
    },
    "breadcrumbs_ties": {
        "merge_method": "breadcrumbs_ties",
        "base_model": "base",
        "models": [("one", {"weight": 1, "density": 0.6, "gamma": 0.05}), ("two", {"weight": 0.6, "density": 0.9})],
        "parameters": {"rescale": True},
    },
    "della of all": {
        "merge_method": "della",
        "base_model": "base",
        "models": [("one", {"weight": 1.0, "density": 1.0}), ("two", {"weight": 0.6})],
    },
    "della_linear of all": {
        "merge_method": "della_linear",
        "base_model": "base",
        "models": [("one", {"weight": 1.0}), ("two", {"weight": 0.6})],
    },
    "model_stock": {"merge_method": "model_stock", "base_model": "base", "models": [("one", {}), ("two", {})]},
    "model_stock by rows": {
        "merge_method": "model_stock",
        "base_model": "base",
        "models": [("one", {}), ("two", {})],
        "parameters": {"filter_wise": True},
    },
    "nuslerp": {
        "merge_method": "nuslerp",
        "models": [("one", {"weight": 0.3}), ("two", {"weight": [{"filter": "mlp", "value": 0.7}, {"value": 0.1}]})],
    },
    "nuslerp of task vectors": {
        "merge_method": "nuslerp",
        "base_model": "base",
        "models": [("one", {"weight": 0.3}), ("two", {"weight": 0.7})],
    },
    "nuslerp by rows": {
        "merge_method": "nuslerp",
        "base_model": "base",
        "models": [("one", {"weight": 0.3}), ("two", {"weight": 0.7})],
        "parameters": {"nuslerp_flatten": False},
    },
    "nuslerp by columns": {
        "merge_method": "nuslerp",
        "base_model": "base",
        "models": [("one", {"weight": 0.3}), ("two", {"weight": 0.7})],
        "parameters": {"nuslerp_flatten": False, "nuslerp_row_wise": True},
    },
    "sce": {"merge_method": "sce", "base_model": "base", "models": [("one", {}), ("two", {})]},
    "sce of a half": {
        "merge_method": "sce",
        "base_model": "base",
        "models": [("one", {}), ("two", {})],
        "parameters": {"select_topk": 0.5},
    },
    "passthrough": {
        "merge_method": "passthrough",
        "slices": [
            [("two", 1, 2, {})],
            [("one", 0, 1, {"scale": [{"filter": "o_proj", "value": 0.5}, {"filter": "down_proj", "value": 0}]})],
        ],
    },
}


def written(folders: dict[str, Path], config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with folders in place of names."""
    content = dict(config)
    if "base_model" in config:
        content["base_model"] = str(folders[config["base_model"]])
    if "models" in config:
        content["models"] = [given(folders, name, **own) for name, own in config["models"]]
    if "slices" in config:
        content["slices"] = [
            {"sources": [layers(folders, name, first, end, **own) for name, first, end, own in part]}
            for part in config["slices"]
        ]
    return content


def read_here(folders: dict[str, Path], folder: Path, config: dict[str, Any]) -> Checkpoint:
    """The recipe `mergekit` on the same configuration."""
    recipe = Mergekit.model_validate({"method": "mergekit", "config": config})
    base = Checkpoint(folders["base"])
    sources = recipe.sources("m", FolderSource(kind="folder", path=str(folders["base"])))
    bench = Bench("m", "mine", base, folder, folder, folder, sources, folder / "scratch")
    work = WorkFolder(folder / "ours", "key")
    merge(open_merge(recipe, bench).merge, work)
    return Checkpoint(work.model)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_gives_the_same_tensors(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    config = written(folders, CONFIGS[name])
    found = read_here(folders, tmp_path, config | {"dtype": "float32"})
    assert difference(found, theirs(tmp_path, config)) <= 2e-6


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["linear", "slerp", "ties of negative weights", "task_arithmetic", "nuslerp"])
def test_in_16_bits_the_tensors_are_the_same_within_a_rounding(
    name: str, dtype: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    config = written(folders, CONFIGS[name])
    found = read_here(folders, tmp_path, config | {"dtype": dtype})
    expected = theirs(tmp_path, config, dtype=dtype)
    # mergekit computes in the type itself, in steps of 2^-8 or 2^-11 of a number: a few of these from float32. Where a
    # sum of task vectors is nearly zero, a rounding elects the other sign: in no more than a few of a hundred entries.
    step = {"bfloat16": 2**-8, "float16": 2**-11}[dtype]
    for tensor in found.names():
        one, other = found.read(tensor).astype(np.float32), expected.read(tensor).astype(np.float32)
        off = np.abs(one - other) > 4 * step * np.max(np.abs(other))
        assert np.mean(off) <= (0.03 if "ties" in name else 0), tensor
        assert np.mean(np.abs(one - other)[~off]) <= 2 * step * np.mean(np.abs(other)), tensor


def test_a_configuration_and_its_given_output_are_the_same_model(folders: dict[str, Path], tmp_path: Path) -> None:
    """Read here, or made by mergekit and measured as `given`."""
    config = written(folders, CONFIGS["slerp"])
    found = read_here(folders, tmp_path, config | {"dtype": "float32"})
    theirs(tmp_path, config)
    copy_companions(folders["base"], tmp_path / "out")
    source = FolderSource(kind="folder", path=str(tmp_path / "out"))
    base = Checkpoint(folders["base"])
    recipe = Given(method="given", source=source)
    bench = Bench("m", "theirs", base, tmp_path, tmp_path, tmp_path, {"out": source}, tmp_path / "scratch_of_given")
    given_merge = open_merge(recipe, bench).merge
    assert max(float(np.max(np.abs(given_merge.tensor(n)[0] - found.read(n)))) for n in base.names()) <= 2e-6


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
