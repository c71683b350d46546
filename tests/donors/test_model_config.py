"""The settings of a config.json that decide what its weights compute, as Transformers' class has them."""

import json
from pathlib import Path
from typing import Any

import pytest

from safety_tax.core.errors import PipelineError
from safety_tax.donors.model_config import (
    MOST_LAYERS,
    deciding_settings,
    has_tied_embeddings,
    read_config,
    require_same_function,
)

LLAMA = {"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2}


def model(folder: Path, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(LLAMA | config), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("content", "found"),
    [("{", "Expecting property name"), ("[1]", "list"), ("[" * 10**5, "recursion"), (None, "No such")],
)
def test_a_file_that_holds_no_object_is_named(content: str | None, found: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(
        PipelineError, match=rf"Expected a JSON object in .*config.json, found .*{found}.*; fetch it again"
    ):
        read_config(file)


@pytest.mark.parametrize(
    ("config", "tied"),
    [
        ({}, False),
        ({"tie_word_embeddings": True}, True),
        ({"model_type": "gpt2", "n_embd": 8, "n_head": 2}, True),  # its class's default
        ({"model_type": "gemma", "head_dim": 4}, True),
    ],
)
def test_an_absent_key_is_the_classs_default(config: dict[str, Any], tied: bool, tmp_path: Path) -> None:
    assert has_tied_embeddings(model(tmp_path, **config)) is tied


def test_what_decides_is_filled_in_and_what_does_not_is_left_out(tmp_path: Path) -> None:
    found = deciding_settings(
        model(
            tmp_path, use_cache=False, torch_dtype="bfloat16", eos_token_id=7, vocab_size=9, my_note="x", my_bias=True
        )
    )
    assert found["rope_theta"] == 10000.0 and found["hidden_act"] == "silu"
    assert found["head_dim"] == 4  # 8 / 2
    assert found["num_key_value_heads"] == 2  # as many as there are heads
    assert found["my_bias"] is True  # nobody reads it here, but its name is of something that decides
    for key in ("use_cache", "torch_dtype", "dtype", "eos_token_id", "vocab_size", "my_note", "rope_scaling"):
        assert key not in found


@pytest.mark.parametrize("kind", ["linear", "dynamic", "yarn"])
def test_the_longest_context_decides_where_a_rotation_is_computed_from_it(kind: str, tmp_path: Path) -> None:
    scaled = {"rope_scaling": {"type": kind, "factor": 2.0}, "max_position_embeddings": 64}
    found = deciding_settings(model(tmp_path, **scaled))
    assert found["rope_scaling"] == {"rope_type": kind, "factor": 2.0}
    assert ("max_position_embeddings" in found) is (kind != "linear")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "brand_new"}, "a model_type that Transformers knows in .*, found 'brand_new'"),
        ({"model_type": None}, "found None"),
        ({"num_hidden_layers": MOST_LAYERS + 1}, "num_hidden_layers of 10,000 at most in .*, found 10001"),
        ({"num_hidden_layers": True}, "found True"),
        ({"num_attention_heads": 0}, "Expected a configuration of 'llama' in"),
    ],
)
def test_a_configuration_that_is_none_is_one_sentence(config: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=words):
        deciding_settings(model(tmp_path, **config))


def test_a_setting_that_differs_is_said_with_what_to_do(tmp_path: Path) -> None:
    base, donor = model(tmp_path / "base"), model(tmp_path / "donor", rope_theta=5e5)
    require_same_function("safety", base, base, [])
    require_same_function("safety", base, donor, ["rope_theta"])
    with pytest.raises(PipelineError) as raised:
        require_same_function("safety", base, donor, ["hidden_act"])
    assert str(raised.value) == (
        f"Expected donor 'safety' to have the base's rope_theta 10000.0, found 500000.0 in {donor / 'config.json'}; "
        "its weights mean something else in the base: choose a donor of this base, or, where the difference does not "
        "matter, add `may_differ: [rope_theta]` to donors.safety in params.yaml."
    )
    fixed = {"model_type": "the donor is of another architecture: choose one of this base"}
    fixed["tie_word_embeddings"] = "one of the two has a head of its own: choose a donor of this base, or name it in"
    for other in ({"model_type": "mistral"}, {"tie_word_embeddings": True}):
        with pytest.raises(PipelineError, match=fixed[next(iter(other))]):
            require_same_function("safety", base, model(tmp_path / "donor", **other), [])
