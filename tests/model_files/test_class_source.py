"""What a family's source says is what its networks are."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, LlamaConfig
from transformers.models.auto.configuration_auto import model_type_to_module_name
from transformers.pytorch_utils import Conv1D

from safety_tax.model_files.class_source import source_of, stores_inputs_first

SIZES = {"vocab_size": 60, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


@pytest.mark.parametrize("config", [LlamaConfig(**SIZES), GPTNeoXConfig(**SIZES), GPT2Config(**SIZES)])
def test_linear_layers_are_transposed_where_the_network_has_such_layers(config: Any) -> None:
    network = AutoModelForCausalLM.from_config(config)
    assert stores_inputs_first(config.model_type) is any(isinstance(part, Conv1D) for part in network.modules())


def test_every_family_has_the_source_that_transformers_table_names() -> None:
    for kind in CONFIG_MAPPING:
        module = f"transformers.models.{model_type_to_module_name(kind)}"
        try:
            found = find_spec(f"{module}.modeling_{module.rpartition('.')[2]}")
        except ModuleNotFoundError:
            found = None
        assert source_of(kind) == (Path(str(found.origin)).read_text(encoding="utf-8") if found else ""), kind


def test_a_common_family_is_found_without_importing_transformers() -> None:
    code = "import sys; from safety_tax.model_files.class_source import source_of as of"
    code += "; print(len(of('qwen2')), 'transformers' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert told.split() == [str(len(source_of("qwen2"))), "False"]


def test_a_family_is_found_in_the_file_that_transformers_keeps_it_in() -> None:
    assert "class LlamaForCausalLM(" in source_of("llama")
    assert "class Gemma3ForCausalLM(" in source_of("gemma3_text")  # two model types of one file


@pytest.mark.parametrize("kind", ["no_such_family", "", "None", "../llama"])
def test_an_unknown_family_has_no_source(kind: str) -> None:
    assert source_of(kind) == ""
    assert not stores_inputs_first(kind)
