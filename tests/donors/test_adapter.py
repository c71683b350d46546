"""A LoRA adapter's task vector, s · B · A, worked out by hand on matrices of small whole numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.donors.adapter import ADAPTER_CONFIG, Adapter

QUERY, NORM, EMBEDDINGS = "model.layers.0.self_attn.q_proj.weight", "model.norm.weight", "model.embed_tokens.weight"
CONV = "transformer.h.0.attn.c_attn.weight"
DOWN = np.array([[1, 2], [0, 1]], np.float32)  # A, [rank, in]
UP = np.array([[1, 0], [0, 1], [1, 1]], np.float32)  # B, [out, rank]
PRODUCT = [[1, 2], [0, 1], [1, 3]]


def base(folder: Path, kind: str = "llama") -> Checkpoint:
    folder.mkdir()
    shapes = {QUERY: (3, 2), EMBEDDINGS: (2, 3), NORM: (2,)} if kind == "llama" else {CONV: (2, 3)}
    save_file({name: np.ones(shape, np.float32) for name, shape in shapes.items()}, folder / "model.safetensors")
    config = {"model_type": kind, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return Checkpoint(folder)


def adapter(folder: Path, settings: dict[str, Any] | None = None, **tensors: np.ndarray) -> Path:
    """As PEFT saves one, of rank 2 and alpha 6: s = 3."""
    folder.mkdir()
    given = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, **(settings or {})}
    (folder / ADAPTER_CONFIG).write_text(json.dumps(given), encoding="utf-8")
    named = {f"base_model.model.{name.replace('__', '.')}": of for name, of in tensors.items()}
    save_file(named, folder / "adapter_model.safetensors")
    return folder


def pair(name: str = QUERY, down: np.ndarray = DOWN, up: np.ndarray = UP) -> dict[str, np.ndarray]:
    module = name.removesuffix(".weight")
    return {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, 3),  # 6 / 2
        ({"use_rslora": True}, 6 / 2**0.5),
        ({"lora_alpha": 0}, 0),
        ({"alpha_pattern": {"q_proj": 8}}, 4),
        ({"alpha_pattern": {"k_proj": 8}}, 3),
        ({"r": 4, "rank_pattern": {"layers.0.self_attn.q_proj": 2}}, 3),
    ],
)
def test_the_product_is_scaled_as_the_file_says(settings: dict[str, Any], scale: float, tmp_path: Path) -> None:
    opened = Adapter(adapter(tmp_path / "safety", settings, **pair()), base(tmp_path / "base"))
    assert opened.name == "safety" and opened.names() == [QUERY]
    np.testing.assert_allclose(opened.delta(QUERY), scale * np.array(PRODUCT), rtol=1e-6)
    np.testing.assert_allclose(opened.whole(QUERY), 1 + scale * np.array(PRODUCT), rtol=1e-6)


def test_what_the_adapter_leaves_alone_is_the_bases(tmp_path: Path) -> None:
    opened = Adapter(adapter(tmp_path / "safety", **pair()), base(tmp_path / "base"))
    assert opened.whole(NORM).tolist() == [1, 1]


def test_a_module_that_is_stored_whole_counts_as_its_difference(tmp_path: Path) -> None:
    stored = {"model.norm.weight": np.array([1.5, 1], np.float32)}
    folder = adapter(tmp_path / "safety", {"modules_to_save": ["norm"]}, **pair(), **stored)
    opened = Adapter(folder, base(tmp_path / "base"))
    assert opened.names() == [QUERY, NORM]
    assert opened.delta(NORM).tolist() == [0.5, 0]
    assert opened.whole(NORM).tolist() == [1.5, 1]


def test_embeddings_take_the_transpose(tmp_path: Path) -> None:
    factors = {
        "model.embed_tokens.lora_embedding_A": DOWN,  # [rank, tokens]
        "model.embed_tokens.lora_embedding_B": UP,  # [width, rank]
    }
    opened = Adapter(adapter(tmp_path / "safety", **factors), base(tmp_path / "base"))
    assert opened.delta(EMBEDDINGS).tolist() == (3 * np.array(PRODUCT).T).tolist()


def test_gpt_2s_linear_layers_take_the_transpose_too(tmp_path: Path) -> None:
    opened = Adapter(adapter(tmp_path / "safety", **pair(CONV)), base(tmp_path / "base", "gpt2"))
    assert opened.delta(CONV).tolist() == (3 * np.array(PRODUCT).T).tolist()


@pytest.mark.parametrize(
    ("settings", "tensors", "words"),
    [
        ({}, {"x.lora_Q": DOWN}, r"pairs of LoRA matrices in .*, found \['base_model.model.x.lora_Q'\]; tune it again"),
        ({}, {NORM: np.zeros(2, np.float32)}, r"Expected pairs of LoRA matrices in .*, found none; tune it again"),
        ({}, {f"{QUERY[:-7]}.lora_A.weight": DOWN}, r"pairs of LoRA matrices in .*, found \['base_model"),  # A alone
        ({}, pair(down=DOWN[:1]), r"to share a rank, found shapes \(1, 2\) and \(3, 2\)"),
        ({}, pair(up=UP[:2]), rf"Expected donor 'safety' to have the shape \(3, 2\) of the base at {QUERY}"),
        ({"r": 3}, pair(), r"to have rank 3, as adapter_config.json says, found 2"),
        ({"target_modules": ["v_proj"]}, pair(), r"found some at model.layers.0.self_attn.q_proj, which PEFT leaves"),
        ({}, {**pair(), NORM: np.zeros(2, np.float32)}, r"LoRA matrices and what `modules_to_save` names in"),
        ({}, pair("model.layers.7.self_attn.q_proj.weight"), "found its target model.layers.7.self_attn.q_proj"),
        ({"use_dora": True}, pair(), "Expected a plain LoRA adapter in .*, found use_dora True"),
        (
            {},
            {**pair(), f"model.{QUERY[:-7]}.lora_A.weight": DOWN},
            "Expected one adapter in .*, found base_model.* beside base_model",
        ),
    ],
)
def test_what_is_no_plain_adapter_of_the_base_is_one_sentence(
    settings: dict[str, Any], tensors: dict[str, np.ndarray], words: str, tmp_path: Path
) -> None:
    folder = adapter(tmp_path / "safety", settings, **tensors)
    with pytest.raises(PipelineError, match=words):
        Adapter(folder, base(tmp_path / "base"))


def test_a_product_that_is_not_finite_is_named(tmp_path: Path) -> None:
    huge = {name: (of * np.float32(1e20)) for name, of in pair().items()}
    opened = Adapter(adapter(tmp_path / "safety", **huge), base(tmp_path / "base"))
    with (
        np.errstate(over="ignore", invalid="ignore"),
        pytest.raises(PipelineError, match=f"NaN or infinity in {QUERY}"),
    ):
        opened.delta(QUERY)
