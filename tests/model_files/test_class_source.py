"""What a family's source says is what its networks are."""

from typing import Any

import pytest
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, LlamaConfig
from transformers.pytorch_utils import Conv1D

from safety_tax.model_files.class_source import source_of, stores_inputs_first

SIZES = {"vocab_size": 60, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


@pytest.mark.parametrize("config", [LlamaConfig(**SIZES), GPTNeoXConfig(**SIZES), GPT2Config(**SIZES)])
def test_linear_layers_are_transposed_where_the_network_has_such_layers(config: Any) -> None:
    network = AutoModelForCausalLM.from_config(config)
    assert stores_inputs_first(config.model_type) is any(isinstance(part, Conv1D) for part in network.modules())


def test_a_family_is_found_in_the_file_that_transformers_keeps_it_in() -> None:
    assert "class LlamaForCausalLM(" in source_of("llama")
    assert "class Gemma3ForCausalLM(" in source_of("gemma3_text")  # two model types of one file


@pytest.mark.parametrize("kind", ["no_such_family", "", "None", "../llama"])
def test_an_unknown_family_has_no_source(kind: str) -> None:
    assert source_of(kind) == ""
    assert not stores_inputs_first(kind)
