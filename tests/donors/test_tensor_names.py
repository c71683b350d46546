"""One name for one tensor, whatever wrapped it while it was trained."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from safety_tax.core.tensor_files import Checkpoint
from safety_tax.donors.tensor_names import embedding_of, in_base, is_embedding, is_head, layer_of, unwrapped

PLAIN = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize(
    "key",
    [
        PLAIN,
        f"_orig_mod.{PLAIN}",
        f"module.{PLAIN}",
        f"module._orig_mod.{PLAIN}",
        f"base_model.model.{PLAIN}",
        f"base_model.model.base_model.model.{PLAIN}",
        "_fsdp_wrapped_module.model.layers.0._fsdp_wrapped_module._checkpoint_wrapped_module.mlp.up_proj.weight",
        f"module.base_model.model.{PLAIN}",
    ],
)
def test_what_wrapped_a_module_is_not_in_its_name(key: str) -> None:
    assert unwrapped(key) == PLAIN


def test_a_part_of_a_name_is_no_wrapper() -> None:
    assert unwrapped("model.my_module.weight") == "model.my_module.weight"
    assert unwrapped("model.base_model.model.weight") == "model.base_model.model.weight"  # not at the beginning


def base(folder: Path, *names: str) -> Checkpoint:
    save_file({name: np.zeros(1, np.float32) for name in names}, folder / "model.safetensors")
    return Checkpoint(folder)


@pytest.mark.parametrize(
    ("of_base", "names"),
    [
        ("model.norm.weight", ["model.norm.weight", "norm.weight"]),
        ("norm.weight", ["norm.weight", "model.norm.weight", "transformer.norm.weight"]),
        ("transformer.h.0.ln_1.weight", ["h.0.ln_1.weight"]),
        ("gpt_neox.embed_in.weight", ["embed_in.weight"]),
    ],
)
def test_the_network_without_its_head_and_the_one_with_it_share_tensors(
    of_base: str, names: list[str], tmp_path: Path
) -> None:
    model = base(tmp_path, of_base)
    assert {in_base(name, model) for name in names} == {of_base}


def test_a_tensor_that_the_base_lacks_keeps_its_name(tmp_path: Path) -> None:
    assert in_base("model.other.weight", base(tmp_path, "model.norm.weight")) == "model.other.weight"


@pytest.mark.parametrize(
    ("name", "embedding", "head", "layer"),
    [
        ("model.embed_tokens.weight", True, False, None),
        ("transformer.wte.weight", True, False, None),
        ("gpt_neox.embed_in.weight", True, False, None),
        ("embed_tokens.weight", True, False, None),
        ("model.embed_tokens.bias", False, False, None),
        ("transformer.wpe.weight", False, False, None),  # of places, not of tokens
        ("lm_head.weight", False, True, None),
        ("lm_head.bias", False, True, None),
        ("embed_out.weight", False, True, None),
        ("my_lm_head.weight", False, False, None),
        (PLAIN, False, False, 0),
        ("transformer.h.11.attn.c_attn.weight", False, False, 11),
        ("model.layers.3.mlp.experts.7.up_proj.weight", False, False, 3),
        ("model.norm.weight", False, False, None),
    ],
)
def test_a_name_tells_what_a_tensor_is_and_in_which_layer(
    name: str, embedding: bool, head: bool, layer: int | None
) -> None:
    assert (is_embedding(name), is_head(name), layer_of(name)) == (embedding, head, layer)


def test_the_table_of_embeddings_is_found_by_its_name(tmp_path: Path) -> None:
    assert embedding_of(base(tmp_path, "lm_head.weight", "model.norm.weight")) is None
    assert embedding_of(base(tmp_path, "lm_head.weight", "transformer.wte.weight")) == "transformer.wte.weight"
