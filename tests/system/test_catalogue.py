"""The catalogue's Hub entries as params.yaml has them: only HF_ENDPOINT is another."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from conftest import ARCHITECTURES, ROOT, SIZES, real_params
from families import FAMILIES
from hub_server import serving
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

ENTRIES = {
    "mistral_7b": "tiny_mistral",
    "llama31_8b": "tiny_llama",
    "qwen25_14b": "tiny_qwen2",
    "qwen3_8b": "tiny_qwen3",
}
NETWORKS = ARCHITECTURES | {"tiny_qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=32))}
OTHERS = {
    "mistral_nemo_12b": "nemo",
    "mistral_small_24b": "nemo",  # the text in it; see `test_family_files` for how it is taken out
    "llama32_3b": "llama31",
    "gemma2_9b": "gemma2",
    "gemma3_12b": "gemma3",
    "phi4_14b": "phi4",
    "phi35_mini": "phi35",
    "olmo2_7b": "olmo2",
    "granite33_8b": "granite",
    "smollm3_3b": "smollm3",
    "glm4_9b": "glm4",
}
"""The family in `families` that each is of."""


@pytest.mark.slow
def test_the_catalogues_models_are_fetched_and_open_in_transformers(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    require_that_all_open(tmp_path, {name: NETWORKS[of]() for name, of in ENTRIES.items()}, tokenizer)


@pytest.mark.slow
def test_so_are_those_of_the_other_families(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    require_that_all_open(tmp_path, {name: FAMILIES[of].network() for name, of in OTHERS.items()}, tokenizer)


def test_every_entry_of_the_hub_is_tried_here() -> None:
    sources = {name: entry["source"] for name, entry in real_params()["catalog"].items()}
    assert {name for name, source in sources.items() if source["kind"] == "hub"} == {*ENTRIES, *OTHERS}
    assert real_params()["published"].keys() == sources.keys()


def require_that_all_open(
    folder: Path, networks: Mapping[str, torch.nn.Module], tokenizer: PreTrainedTokenizerFast
) -> None:
    """Serve each under its entry's name and commit, fetch it, and compare every weight in the entry's type."""
    work, entries = folder / "work", real_params()["catalog"]
    (work / "data").mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copyfile(ROOT / name, work / name)
    shutil.copytree(ROOT / "data/chat_templates", work / "data/chat_templates")
    with serving() as hub:
        hub.approved.add("hf_approved")
        for name, network in networks.items():
            served = folder / "hub" / name
            network.to(torch.bfloat16).save_pretrained(served, max_shard_size="100KB")
            tokenizer.save_pretrained(served)
            if entries[name]["chat_template"] != "own":  # the real one has no template
                (served / "chat_template.jinja").unlink()
            source = entries[name]["source"]
            hub.add("models", source["repository"], served, source["commit"], gated=name == "llama31_8b")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment |= hub.environment(folder / "home", HF_TOKEN="hf_approved")
        for name in networks:
            command = [sys.executable, "-m", "stages.fetch_model", name]
            result = subprocess.run(
                command, cwd=work, env=environment, capture_output=True, text=True, check=False, timeout=120
            )
            assert result.returncode == 0, result.stderr
    for name, network in networks.items():
        found = AutoModelForCausalLM.from_pretrained(work / "models/base" / name, dtype="auto")
        kind = getattr(torch, entries[name]["dtype"])
        assert type(found) is type(network)
        assert found.dtype == kind
        served = dict(network.named_parameters())
        assert all(torch.equal(value, served[key].to(kind)) for key, value in found.named_parameters()), name
        turns = [{"role": "user", "content": "Hello"}]
        of = AutoTokenizer.from_pretrained(work / "models/base" / name)
        assert "Hello" in of.apply_chat_template(turns, tokenize=False)
