"""Donors that were tuned elsewhere: fetched from a loopback Hub or a folder by the stage `tune`, and checked."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warm
import yaml
from conftest import ROOT, real_params
from hub_server import Hub, serving
from safetensors.numpy import load_file, save_file

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.core.text_files import MARK
from safety_tax.donors.fetching import bring_donor
from safety_tax.donors.opening import open_donor
from safety_tax.params import validated
from safety_tax.settings.sources import FolderSource
from stages import tune

COMMIT = "c" * 40
HUB_SOURCE = {"kind": "hub", "repository": "own/lora", "commit": COMMIT}
QUERY = "model.layers.0.self_attn.q_proj"
CONFIG = {"model_type": "llama", "tie_word_embeddings": False, "architectures": ["LlamaForCausalLM"]}
TOKENIZER = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}}}
# In the process of the client, which reads its settings on import.
BRING = """
import json, sys
from pathlib import Path
from pydantic import TypeAdapter
from safety_tax.core.console import run_stage
from safety_tax.core.files import folder_written_atomically
from safety_tax.settings.donors import DonorSource
from safety_tax.donors.fetching import bring_donor

def main():
    source = TypeAdapter(DonorSource).validate_python(json.loads(sys.argv[1]))
    with folder_written_atomically(Path("donors/safety")) as folder:
        print(bring_donor(source, "safety", Path("base"), folder))

run_stage(main)
"""


def write_model(folder: Path, value: float) -> None:
    """A checkpoint of one layer's query weights, every one of them `value`."""
    folder.mkdir(parents=True)
    save_file({f"{QUERY}.weight": np.full((4, 6), value, np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER), encoding="utf-8")


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    """An adapter in PEFT's layout, with what else lies in a repository; its base is beside it."""
    write_model(tmp_path / "base", 1.0)
    folder = tmp_path / "lora"
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none", "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    down, up = np.ones((2, 6), np.float32), np.full((4, 2), 0.25, np.float32)
    pair = {f"base_model.model.{QUERY}.lora_A.weight": down, f"base_model.model.{QUERY}.lora_B.weight": up}
    save_file(pair, folder / "adapter_model.safetensors")
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER), encoding="utf-8")
    (folder / "optimizer.pt").write_bytes(b"unwanted")
    return folder


@pytest.fixture
def hub(lora: Path) -> Iterator[Hub]:
    with serving() as hub:
        hub.add("models", "own/lora", lora, COMMIT)
        yield hub


def bring(hub: Hub | None, folder: Path, source: dict[str, Any], **more: str) -> subprocess.CompletedProcess[str]:
    of_hub = hub.environment(folder / "home") if hub else {}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **of_hub, **more}
    return warm.python("-c", BRING, json.dumps(source), cwd=folder, env=environment)


def refused(result: subprocess.CompletedProcess[str], folder: Path) -> str:
    """The one sentence; nothing was written."""
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert ".partial" not in result.stderr
    assert not [file for file in (folder / "donors").rglob("*") if file.is_file()]
    return result.stderr


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_an_adapter_of_the_hub_is_a_donor(hub: Hub, tmp_path: Path) -> None:
    result = bring(hub, tmp_path, HUB_SOURCE)
    assert result.returncode == 0, result.stderr
    donor = tmp_path / "donors/safety"
    assert names(donor) == {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"}
    # alpha / r = 2, and a product of two ones with two quarters is 0.5
    delta = open_donor(donor, Checkpoint(tmp_path / "base")).delta(f"{QUERY}.weight")
    assert delta.tolist() == np.ones((4, 6)).tolist()


@pytest.mark.skipif(find_spec("hf_transfer") is not None, reason="the package is here")
def test_a_download_does_without_hf_transfer(hub: Hub, tmp_path: Path) -> None:
    result = bring(hub, tmp_path, HUB_SOURCE, HF_HUB_ENABLE_HF_TRANSFER="1")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "the package hf_transfer is not installed: downloads do without it" in result.stdout


def test_a_full_checkpoint_of_the_hub_is_a_donor(hub: Hub, tmp_path: Path) -> None:
    write_model(tmp_path / "full", 3.0)
    hub.add("models", "own/full", tmp_path / "full", COMMIT)
    result = bring(hub, tmp_path, {**HUB_SOURCE, "repository": "own/full"})
    assert result.returncode == 0, result.stderr
    donor = tmp_path / "donors/safety"
    assert names(donor) == {"config.json", "model.safetensors", "tokenizer.json"}
    delta = open_donor(donor, Checkpoint(tmp_path / "base")).delta(f"{QUERY}.weight")
    assert delta.tolist() == np.full((4, 6), 2.0).tolist()


def test_an_adapter_of_another_model_is_refused(hub: Hub, lora: Path, tmp_path: Path) -> None:
    file = lora / "adapter_model.safetensors"
    save_file({key.replace("q_proj", "x_proj"): value for key, value in load_file(file).items()}, file)
    sentence = refused(bring(hub, tmp_path, HUB_SOURCE), tmp_path)
    assert "Expected donor 'safety' to fit the base, found its target model.layers.0.self_attn.x_proj" in sentence


def test_a_donor_with_another_vocabulary_is_refused(hub: Hub, lora: Path, tmp_path: Path) -> None:
    (lora / "tokenizer.json").write_text('{"model": {"vocab": {"a": 1, "b": 0}}}', encoding="utf-8")
    assert "to have the base's vocabulary, found token 'a'" in refused(bring(hub, tmp_path, HUB_SOURCE), tmp_path)


def test_a_pickled_adapter_is_refused(hub: Hub, lora: Path, tmp_path: Path) -> None:
    (lora / "adapter_model.safetensors").rename(lora / "adapter_model.bin")
    sentence = refused(bring(hub, tmp_path, HUB_SOURCE), tmp_path)
    assert "safetensors weights (adapter_model*.safetensors) in own/lora@cccccccc, found pickled" in sentence
    sentence = refused(bring(hub, tmp_path, {"kind": "folder", "path": str(lora)}), tmp_path)
    assert f"weights in {lora}, found adapter_model.bin" in sentence


def own(lora: Path) -> FolderSource:
    return FolderSource(kind="folder", path=str(lora))


@pytest.mark.parametrize(
    ("place", "found", "step"),
    [
        ("checkpoint-9/adapter_model.safetensors", "none, but some in its folder checkpoint-9; ", "name that folder"),
        ("adapters.safetensors", "adapters.safetensors, as another program names them (MLX", "convert it to what PEFT"),
        ("adapter.gguf", "adapter.gguf; ", "and save it as safetensors"),
    ],
)
def test_weights_in_another_place_are_named_with_the_way_there(
    place: str, found: str, step: str, lora: Path, tmp_path: Path
) -> None:
    (lora / place).parent.mkdir(exist_ok=True)
    (lora / "adapter_model.safetensors").rename(lora / place)
    with pytest.raises(PipelineError) as raised:
        bring_donor(own(lora), "safety", tmp_path / "base", tmp_path / "donor")
    assert f"found {found}" in str(raised.value) and step in str(raised.value)


def test_an_adapters_settings_beside_a_whole_model_are_left_there(lora: Path, tmp_path: Path) -> None:
    """As an export of the merged model into the adapter's folder leaves them."""
    write_model(tmp_path / "merged", 3.0)
    (lora / "adapter_config.json").rename(tmp_path / "merged/adapter_config.json")
    (tmp_path / "donor").mkdir()
    assert bring_donor(own(tmp_path / "merged"), "safety", tmp_path / "base", tmp_path / "donor") == 1
    assert names(tmp_path / "donor") == {"config.json", "model.safetensors", "tokenizer.json"}


def test_a_donor_that_is_its_base_is_refused(lora: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "copy", 1.0)
    tensors = load_file(lora / "adapter_model.safetensors")
    untrained = {name: tensor * ("lora_B" not in name) for name, tensor in tensors.items()}
    save_file(untrained, lora / "adapter_model.safetensors")
    for place in (tmp_path / "copy", lora):
        donor = tmp_path / f"{place.name}_donor"
        donor.mkdir()
        with pytest.raises(PipelineError, match="Expected donor 'safety' to differ from the base, found the base's"):
            bring_donor(own(place), "safety", tmp_path / "base", donor)


def test_a_byte_order_mark_is_taken_off_and_the_persons_file_stays(lora: Path, tmp_path: Path) -> None:
    settings, donor = lora / "adapter_config.json", tmp_path / "donor"
    plain = settings.read_bytes()
    settings.write_bytes(MARK + plain)
    donor.mkdir()
    assert bring_donor(own(lora), "safety", tmp_path / "base", donor) == 1
    assert (donor / settings.name).read_bytes() == plain
    assert settings.read_bytes() == MARK + plain


def test_weights_that_are_not_finite_are_refused(hub: Hub, lora: Path, tmp_path: Path) -> None:
    tensors = load_file(lora / "adapter_model.safetensors")
    next(iter(tensors.values()))[0, 0] = np.nan
    save_file(tensors, lora / "adapter_model.safetensors")
    sentence = refused(bring(hub, tmp_path, HUB_SOURCE), tmp_path)
    assert "found NaN or infinity" in sentence
    assert "own/lora@cccccccc" in sentence


def params_with(source: Any, **more: Any) -> dict[str, Any]:
    params = copy.deepcopy(real_params())
    params["donors"]["safety"] = {"source": source, **more}
    return params


def test_the_stage_brings_the_donor_of_its_model(lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base").rename(tmp_path / "smollm2_135m")
    (tmp_path / "models/base").mkdir(parents=True)
    (tmp_path / "smollm2_135m").rename(tmp_path / "models/base/smollm2_135m")
    (tmp_path / "dvc.yaml").touch()
    elsewhere = {"kind": "folder", "path": "none"}
    source = {"mistral_7b": elsewhere, "smollm2_135m": {"kind": "folder", "path": str(lora)}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params_with(source)), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tune", "smollm2_135m", "safety"])
    tune.main()
    donor = tmp_path / "models/donors/smollm2_135m/safety"
    assert names(donor) == {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"}
    assert names(donor.parent) == {"safety"}
    # A copy: whoever rewrites the folder's file does not rewrite what DVC stores.
    assert not (donor / "adapter_model.safetensors").samefile(lora / "adapter_model.safetensors")


def fault(source: Any, **more: Any) -> str:
    with pytest.raises(PipelineError) as error:
        validated(params_with(source, **more))
    return str(error.value)


def test_a_faulty_entry_is_said_at_its_place() -> None:
    short = fault({**HUB_SOURCE, "commit": "main"})
    assert "donors.safety.source.commit" in short
    assert "found 'main'" in short
    assert "donors.safety.rows" in fault(HUB_SOURCE, rows=3)
    assert "no entry for the model 'smollm2_135m'" in fault({"mistral_7b": HUB_SOURCE})
    assert "did you mean 'mistral_7b'" in fault({"mistral_7": HUB_SOURCE})


def test_what_lies_beside_safetensors_is_left_where_it_is(lora: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "full", 3.0)
    for folder in (lora, tmp_path / "full"):
        for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "scheduler.pt", "rng_state.pth"):
            (folder / name).write_bytes(b"never read")
        (folder / "tokenizer_config.json").write_text("{}", encoding="utf-8")
        result = bring(None, tmp_path, {"kind": "folder", "path": str(folder)})
        assert result.returncode == 0, result.stderr
        brought = names(tmp_path / "donors/safety")
        assert brought == {file for file in names(folder) if file.endswith((".json", ".safetensors"))}


def test_a_donor_of_another_function_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    write_model(tmp_path / "base", 1.0)
    write_model(tmp_path / "full", 3.0)
    config = json.dumps(CONFIG | {"rope_theta": 500000.0})
    (tmp_path / "full/config.json").write_text(config, encoding="utf-8")
    sentence = refused(bring(None, tmp_path, {"kind": "folder", "path": str(tmp_path / "full")}), tmp_path)
    assert "donor 'safety' to have the base's rope_theta 10000.0, found 500000.0" in sentence
    assert "add `may_differ: [rope_theta]` to donors.safety" in sentence
