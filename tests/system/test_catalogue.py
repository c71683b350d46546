"""The catalogue's Hub entries as params.yaml has them: only HF_ENDPOINT is another."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from conftest import ARCHITECTURES, ROOT, SIZES, real_params
from hub_server import serving
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

ENTRIES = {
    "mistral_7b": "tiny_mistral",
    "llama31_8b": "tiny_llama",
    "qwen25_14b": "tiny_qwen2",
    "qwen3_8b": "tiny_qwen3",
}
NETWORKS = ARCHITECTURES | {"tiny_qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=32))}


def test_the_catalogues_models_are_fetched_and_open_in_transformers(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    work = tmp_path / "work"
    (work / "data").mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copyfile(ROOT / name, work / name)
    shutil.copytree(ROOT / "data/chat_templates", work / "data/chat_templates")
    with serving() as hub:
        hub.approved.add("hf_approved")
        for name, architecture in ENTRIES.items():
            torch.manual_seed(3)
            folder = tmp_path / "hub" / name
            NETWORKS[architecture]().to(torch.bfloat16).save_pretrained(folder, max_shard_size="100KB")
            tokenizer.save_pretrained(folder)
            if name == "mistral_7b":  # the real one has no template
                (folder / "chat_template.jinja").unlink()
            source = real_params()["catalog"][name]["source"]
            hub.add("models", source["repository"], folder, source["commit"], gated=name == "llama31_8b")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment |= hub.environment(tmp_path / "home", HF_TOKEN="hf_approved")
        for name in ENTRIES:
            command = [sys.executable, "-m", "stages.fetch_model", name]
            result = subprocess.run(
                command, cwd=work, env=environment, capture_output=True, text=True, check=False, timeout=120
            )
            assert result.returncode == 0, result.stderr
    for name, architecture in ENTRIES.items():
        folder = work / "models/base" / name
        found = AutoModelForCausalLM.from_pretrained(folder)
        there = AutoModelForCausalLM.from_pretrained(tmp_path / "hub" / name)
        assert type(found).__name__.lower().startswith(architecture.removeprefix("tiny_"))
        assert all(
            torch.equal(a, b.half().float()) for a, b in zip(found.parameters(), there.parameters(), strict=True)
        )
        turns = [{"role": "user", "content": "Hello"}]
        assert "Hello" in AutoTokenizer.from_pretrained(folder).apply_chat_template(turns, tokenize=False)
