"""A network of repeated elements: the shapes of a real one in no memory."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from families import FAMILIES
from transformers import LlamaConfig, LlamaForCausalLM

from safety_tax.onnx import onnx_graph
from safety_tax.onnx.weightless import cheap_products, weightless

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


def test_a_layer_of_any_size_takes_no_time() -> None:
    """2e14 multiplications in float16, as it stands there."""
    wide, narrow = 10**7, torch.zeros(1, dtype=torch.float16)
    x = torch.ones(1, 2, wide, dtype=torch.float16)
    with cheap_products():
        found = torch.nn.functional.linear(x, narrow.expand(wide, wide), narrow.expand(wide) + 1)
    assert found.shape == (1, 2, wide) and torch.equal(found, x)


def test_real_weights_are_multiplied_as_ever() -> None:
    torch.manual_seed(0)
    x, layer = torch.randn(3, 5, 8), torch.nn.Linear(8, 4)
    with torch.no_grad():
        expected = layer(x)
        with cheap_products():
            torch.testing.assert_close(layer(x), expected)
        assert torch.equal(layer(x), expected)  # all is as it was


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["llama31", "gemma2", "phi35", "cohere", "qwen3_moe"])
def test_a_trace_is_the_same_graph_with_whole_products(
    kind: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FAMILIES[kind].network().save_pretrained(tmp_path)

    def traced() -> bytes:
        network = weightless(tmp_path, getattr(torch, dtype))
        return onnx_graph.trace(network, dtype, 18).model.SerializeToString(deterministic=True)

    found = traced()
    monkeypatch.setattr(onnx_graph, "cheap_products", nullcontext)
    assert traced() == found
