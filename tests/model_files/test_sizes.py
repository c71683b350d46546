"""The sizes of a config.json are held against its tensors' names before anything of that size is built."""

from typing import Any

import pytest

from safety_tax.core.errors import PipelineError
from safety_tax.model_files.sizes import MOST_POSITIONS, require_sizes

LLAMA: dict[str, Any] = {"model_type": "llama", "num_hidden_layers": 2, "vocab_size": 60, "hidden_size": 8}
TENSORS = [
    "model.embed_tokens.weight",
    "model.layers.0.mlp.experts.7.up_proj.weight",  # the first number is the layer's
    "model.layers.1.self_attn.q_proj.weight",
]


def test_sizes_that_the_tensors_have_are_taken() -> None:
    require_sizes(LLAMA, TENSORS, "m")
    require_sizes({"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2}, ["h.0.ln_1.weight"], "m")
    # An absent size is the class's own: 32 layers.
    many = [f"model.layers.{n}.input_layernorm.weight" for n in range(32)]
    require_sizes({"model_type": "llama"}, many, "m")


@pytest.mark.parametrize("value", [0, -1, 2.0, "60", True, [60], 10**100 * -1])
def test_what_is_no_size_is_shown(value: Any) -> None:
    with pytest.raises(PipelineError, match=r"Expected a size as vocab_size in config\.json of 'm', found "):
        require_sizes(LLAMA | {"vocab_size": value}, TENSORS, "m")


def test_a_familys_own_name_of_a_size_is_said() -> None:
    with pytest.raises(PipelineError, match=r"as n_embd in config\.json"):
        require_sizes({"model_type": "gpt2", "n_layer": 1, "n_embd": 0}, ["h.0.ln_1.weight"], "m")


def test_more_positions_than_a_table_can_hold_are_refused() -> None:
    require_sizes(LLAMA | {"max_position_embeddings": MOST_POSITIONS}, TENSORS, "m")
    with pytest.raises(PipelineError) as raised:
        require_sizes(LLAMA | {"max_position_embeddings": MOST_POSITIONS + 1}, TENSORS, "m")
    assert str(raised.value) == (
        "Expected max_position_embeddings of 8,388,608 at most in config.json of 'm', found 8,388,609; fetch it again."
    )


@pytest.mark.parametrize("layers", [1, 3, 10**12])
def test_a_whole_checkpoint_has_the_layers_of_its_configuration(layers: int) -> None:
    with pytest.raises(PipelineError, match=f"Expected {layers:,} layers in the weights of 'm', .* found 2;"):
        require_sizes(LLAMA | {"num_hidden_layers": layers}, TENSORS, "m")


def test_a_part_of_a_checkpoint_may_lack_layers_but_not_name_more_than_could_be() -> None:
    require_sizes(LLAMA | {"num_hidden_layers": 1024}, TENSORS, "m", whole=False)
    with pytest.raises(PipelineError, match="Expected 1,025 layers"):
        require_sizes(LLAMA | {"num_hidden_layers": 1025}, TENSORS, "m", whole=False)


def test_experts_beyond_all_tensors_are_refused() -> None:
    require_sizes(LLAMA | {"num_local_experts": 1024, "expert_names": "many"}, TENSORS, "m")
    with pytest.raises(PipelineError, match=r"found num_local_experts = 1,025 in config.json"):
        require_sizes(LLAMA | {"num_local_experts": 1025}, TENSORS, "m")
