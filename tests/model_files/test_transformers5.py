"""Checkpoints as Transformers 5 saves them, one a family: the pinned version computes what Transformers 5 computes.

`transformers5_files.py` has written the files, in an environment of Transformers 5.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES
from safetensors.numpy import save_file
from test_sources import model_from
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers5_files import FOLDER, TEXTS, TOKENIZERS, TOKENS, drawn, kept

from safety_tax.core.errors import PipelineError
from safety_tax.model_files.attention import implementation_in
from safety_tax.model_files.bringing import bring, check, check_tokenizer, give_template, give_type, name_ends
from safety_tax.model_files.config import translated
from safety_tax.onnx.parity import pytorch_logits

MODELS = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.json"))}
# Families whose published tokenizers are of one of the kinds that are kept; the others' are plain.
OF_FAMILY = {"gpt_neox": "gpt_neox", "gpt2": "gpt2", "phi": "phi", "cohere": "cohere", "llama2": "llama"}
OF_FAMILY |= {"qwen25": "qwen2", "qwen3": "qwen2", "gemma2": "gemma", "gemma3": "gemma", "mistral_v1": "llama"}


def put_tokenizer(kind: str, folder: Path) -> Any:
    """The files that Transformers 5 saved; returns them, and what it made of texts."""
    found = json.loads((FOLDER / "tokenizers" / f"{kind}.json").read_text(encoding="utf-8"))
    for name in found.keys() - {"ids", "texts"}:
        text = json.dumps(found[name], ensure_ascii=False) if name.endswith(".json") else found[name]
        (folder / name).write_text(text, encoding="utf-8")
    return found


def put_model(name: str, folder: Path) -> Any:
    """The checkpoint that Transformers 5 saved; returns the log-probabilities that it computed."""
    folder.mkdir()
    saved = MODELS[name]
    for config in saved.keys() & {"config", "generation_config"}:
        (folder / f"{config}.json").write_text(json.dumps(saved[config]), encoding="utf-8")
    save_file(drawn(saved["tensors"], saved["spread"]), folder / "model.safetensors", metadata={"format": "pt"})
    return saved["logprobs"]


def fetched(source: Path, folder: Path) -> Path:
    """What `fetch_model` makes of the checkpoint."""
    folder.mkdir()
    bring(model_from(source), folder)
    give_template("own", folder)
    check(folder, "m")
    give_type("float32", folder, "m")
    check_tokenizer(folder, "m")
    name_ends(folder, "m")
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_the_pinned_version_computes_what_transformers_5_computes(name: str, tmp_path: Path) -> None:
    expected = put_model(name, tmp_path / "saved")
    put_tokenizer(OF_FAMILY.get(name, "plain"), tmp_path / "saved")
    folder = fetched(tmp_path / "saved", tmp_path / "fetched")
    found = kept(torch.from_numpy(pytorch_logits(folder, [TOKENS])[0])[None])
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
    assert np.ptp(expected) > 3  # far from flat: nats


def test_whoever_loads_gemma_2_in_pytorch_caps_its_scores(tmp_path: Path) -> None:
    """The pinned version's own choice of attention does not."""
    expected = put_model("gemma2", tmp_path / "saved")
    put_tokenizer("gemma", tmp_path / "saved")
    folder = fetched(tmp_path / "saved", tmp_path / "fetched")
    found = {}
    for attention in (implementation_in(folder), None):
        network = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention).eval()
        with torch.inference_mode():
            found[attention] = kept(network(input_ids=torch.tensor([TOKENS])).logits)
    np.testing.assert_allclose(found["eager"], expected, rtol=0, atol=2e-5)
    assert np.abs(np.subtract(found[None], expected)).max() > 0.1


ONE = {"rope_type": "default", "rope_theta": 1e4}


@pytest.mark.parametrize(
    ("kind", "windows"),
    [("gemma3_text", ONE | {"rope_type": "linear", "factor": 2.0}), ("olmo3", ONE | {"rope_theta": 5e5})],
)
def test_windows_that_rotate_as_the_pinned_class_does_not_are_refused(kind: str, windows: dict[str, Any]) -> None:
    config = {"model_type": kind, "layer_types": ["sliding_attention", "full_attention"], "num_hidden_layers": 2}
    with pytest.raises(PipelineError, match="one for each of full_attention, sliding_attention"):
        translated(config | {"rope_parameters": {"sliding_attention": windows, "full_attention": ONE}}, "m")


def test_every_family_of_the_table_has_a_checkpoint_of_transformers_5() -> None:
    assert FAMILIES.keys() <= MODELS.keys()
    assert all(saved["config"]["transformers_version"].startswith("5.") for saved in MODELS.values())


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_tokenizer_that_transformers_5_saved_gives_the_same_tokens(kind: str, tmp_path: Path) -> None:
    put_model("llama2", tmp_path / "saved")
    expected = put_tokenizer(kind, tmp_path / "saved")
    tokenizer = AutoTokenizer.from_pretrained(fetched(tmp_path / "saved", tmp_path / "fetched"))
    assert [tokenizer(text)["input_ids"] for text in TEXTS] == expected["ids"]
    assert [tokenizer.decode(ids) for ids in expected["ids"]] == expected["texts"]
