"""Which of a repository's files a model needs, by their names alone, and that its code is never one of them."""

import json
from pathlib import Path

import pytest

from safety_tax.core.errors import PipelineError
from safety_tax.sources.hub import RemoteFile, choose, require_no_code

INDEX = "model.safetensors.index.json"
SHARDS = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]


def files(*names: str) -> list[RemoteFile]:
    return [RemoteFile(name, 1, None) for name in names]


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        (["README.md", "config.json", "model.safetensors"], ["config.json", "model.safetensors"]),
        ([*SHARDS, INDEX, "tokenizer.json"], [*SHARDS, INDEX, "tokenizer.json"]),
        (["model.safetensors", *SHARDS, INDEX], ["model.safetensors"]),  # as Transformers does
        (SHARDS, SHARDS),
        (["model.safetensors", "consolidated.safetensors", "pytorch_model.bin", "modeling.py"], ["model.safetensors"]),
        (["model.safetensors", "onnx/model.safetensors", "model-fp8.safetensors"], ["model.safetensors"]),
        # An adapter beside the base that it was made from.
        (
            ["adapter_config.json", "adapter_model.safetensors", "model.safetensors"],
            ["adapter_config.json", "adapter_model.safetensors"],
        ),
    ],
)
def test_what_transformers_loads_is_what_is_needed(there: list[str], chosen: list[str]) -> None:
    assert [file.name for file in choose(files(*there), "m")] == chosen


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ([], r"safetensors weights \(model\*\.safetensors\) in m, found none; choose a commit"),
        (["pytorch_model.bin", "a.ckpt"], "found pickled a.ckpt, which runs code when it is read"),
        (["adapter_config.json", "adapter_model.bin", "model.safetensors"], r"\(adapter_model\*\.safetensors\) in m"),
    ],
)
def test_without_safetensors_there_is_no_model(there: list[str], words: str) -> None:
    with pytest.raises(PipelineError, match=words):
        choose(files(*there), "m")


def test_code_of_the_repositorys_own_is_refused_where_it_would_be_run(tmp_path: Path) -> None:
    settings, other = tmp_path / "config.json", tmp_path / "other.json"
    for file in (settings, other):
        file.write_text(json.dumps({"model_type": "mine", "auto_map": {"AutoModel": "own.Model"}}), encoding="utf-8")
    require_no_code([other], "m")  # nobody reads it
    with pytest.raises(PipelineError, match=r"found `auto_map` in config\.json of m, which asks to run"):
        require_no_code([other, settings], "m")
    settings.write_text("{", encoding="utf-8")
    with pytest.raises(PipelineError, match=r"Expected JSON in config\.json of m, found .*; choose another commit"):
        require_no_code([settings], "m")
