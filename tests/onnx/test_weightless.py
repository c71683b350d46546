"""A network of repeated elements: the shapes of a real one in no memory."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from safety_tax.onnx.weightless import weightless

SIZES = {"vocab_size": 60, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_have_their_shapes_and_one_element_each(tied: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    config = LlamaConfig(**SIZES, tie_word_embeddings=tied)
    config.save_pretrained(tmp_path)
    network = weightless(tmp_path, dtype)
    whole = LlamaForCausalLM(config)
    assert {name: value.shape for name, value in network.named_parameters()} == {
        name: value.shape for name, value in whole.named_parameters()
    }
    assert {value.untyped_storage().nbytes() for value in network.parameters()} == {dtype.itemsize}
    assert {value.dtype for value in network.parameters()} == {dtype}
    assert (network.lm_head.weight is network.model.embed_tokens.weight) is tied  # type: ignore[union-attr]
    assert not network.training and not any(value.requires_grad for value in network.parameters())


def test_tables_of_angles_are_real(tmp_path: Path) -> None:
    config = LlamaConfig(**SIZES)
    config.save_pretrained(tmp_path)
    found = dict(weightless(tmp_path, torch.float32).named_buffers())
    expected = dict(LlamaForCausalLM(config).named_buffers())
    assert found.keys() == expected.keys() and len(found) > 0
    assert all(torch.equal(found[name], expected[name]) for name in found)
