"""A network without weights: built, compared with a checkpoint's shapes, and run over shapes alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.model_files.layout import Layout
from safety_tax.model_files.network import empty_network, require_forward, require_shapes

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 60,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
ALL = Layout([], {})
GATE = "model.layers.0.mlp.gate_proj.weight"


def test_a_network_of_any_size_takes_no_memory() -> None:
    huge = empty_network(LLAMA | {"hidden_size": 2**20, "intermediate_size": 2**22, "vocab_size": 2**20}, "m")
    assert sum(value.numel() for value in huge.parameters()) > 2**43
    assert {value.device.type for value in huge.parameters()} == {"meta"}
    require_forward(huge, "m")


@pytest.mark.parametrize("tied", [True, False])
def test_tied_tensors_are_one(tied: bool) -> None:
    network: Any = empty_network(LLAMA | {"tie_word_embeddings": tied}, "m")
    assert (network.lm_head.weight is network.model.embed_tokens.weight) is tied
    assert not network.training


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hidden_act": "evil"}, "'evil'"),
        ({"rope_scaling": {"rope_type": "linear"}}, '"Missing required keys in `rope_scaling`'),
    ],
)
def test_what_cannot_be_built_is_one_sentence(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(PipelineError) as raised:
        empty_network(LLAMA | change, "m")
    assert str(raised.value).startswith(
        f"Expected a config.json of 'm' from which the pinned Transformers builds a network, found: {reason}"
    )


@pytest.mark.parametrize("change", [{"num_key_value_heads": 3}, {"num_attention_heads": 5}, {"head_dim": 5}])
def test_layers_that_do_not_fit_each_other_do_not_run(change: dict[str, Any]) -> None:
    network = empty_network(LLAMA | change, "m")
    with pytest.raises(PipelineError, match=r"pinned Transformers runs a network, found: .* choose another commit"):
        require_forward(network, "m")


def test_autocast_is_as_it_was_after_a_pass() -> None:
    before = torch.autocast
    require_forward(empty_network(LLAMA, "m"), "m")
    assert torch.autocast is before


def checkpoint(folder: Path, network: Any, **changed: torch.Tensor | None) -> Checkpoint:
    """The network's tensors; None takes one out."""
    tensors = {name: torch.zeros(value.shape) for name, value in network.named_parameters()}
    tensors |= {name.replace("__", "."): value for name, value in changed.items()}
    save_file({name: value for name, value in tensors.items() if value is not None}, folder / "model.safetensors")
    return Checkpoint(folder)


def test_a_checkpoint_has_the_networks_shapes(tmp_path: Path) -> None:
    network = empty_network(LLAMA, "m")
    require_shapes(network, checkpoint(tmp_path, network), ALL, "m")
    # What the layout leaves unread does not count.
    beside = checkpoint(tmp_path, network, strange=torch.zeros(2))
    require_shapes(network, beside, Layout(["strange"], {}), "m")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {GATE: torch.zeros(24, 32)},
            f"Expected {GATE} of 'm' in the shape (32, 24) of its config.json, found (24, 32); fetch the model again.",
        ),
        (
            {GATE: None},
            f"Expected {GATE} of 'm' in the shape (32, 24) of its config.json, found none; fetch the model again.",
        ),
        (
            {"strange": torch.zeros(2)},
            "Expected strange of 'm' in the shape of no tensor of its config.json, found (2,); the pinned Transformers "
            "would leave it unread: save the model without it if it served training alone (a value head), else choose "
            "another model.",
        ),
        (
            {"lm_head.weight": None},
            "Expected a head of its own (lm_head.weight) in 'm', since its config.json does not tie it to the "
            "embeddings, found none; set tie_word_embeddings to true in config.json if they are tied, else fetch the "
            "model again.",
        ),
    ],
)
def test_a_tensor_of_another_shape_is_named_with_both(
    changed: dict[str, torch.Tensor | None], sentence: str, tmp_path: Path
) -> None:
    network = empty_network(LLAMA, "m")
    with pytest.raises(PipelineError) as raised:
        require_shapes(network, checkpoint(tmp_path, network, **changed), ALL, "m")
    assert str(raised.value) == sentence
