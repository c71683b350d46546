"""How far each layer looks back, by what its class computes: the graphs, their gate, and what inference is told."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SIZES
from test_export import exported
from transformers import (
    CohereConfig,
    Gemma2Config,
    GemmaConfig,
    GraniteConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    NemotronConfig,
    OlmoConfig,
    OPTConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    StableLmConfig,
)

from safety_tax.engine.gqa.session import GROUPED_GRAPH
from safety_tax.engine.item_checks import reach_of
from safety_tax.model_files.attention import BEYOND, CHECKED_TOKENS, attention_of, unfit, unwritten
from safety_tax.onnx import grouped_query
from safety_tax.onnx.grouped_query import grouped_logits, write_grouped_graph
from safety_tax.onnx.parity import gate_difference, pytorch_logits, worst_difference

WINDOW = 8
WIDE = {"initializer_range": 0.3, "tie_word_embeddings": False}  # attention and logits far from flat
MIXED = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}
LONG = {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [4.0] * 8, "factor": 4.0}


def prompts() -> list[list[int]]:
    draw = np.random.default_rng(0)
    return [draw.integers(3, 600, length).tolist() for length in (6, 5)]


def saved(network: torch.nn.Module, folder: Path) -> tuple[Path, Path]:
    """(weights, ONNX) of a network."""
    network.save_pretrained(folder / "weights")
    return folder / "weights", exported(folder / "weights", folder / "onnx")


@pytest.mark.parametrize(
    ("config", "windows"),
    [
        (LlamaConfig(**SIZES, sliding_window=WINDOW), (None, None)),
        (MistralConfig(**SIZES, sliding_window=WINDOW), (WINDOW, WINDOW)),
        (MistralConfig(**SIZES, sliding_window=WINDOW, use_sliding_window=False), (WINDOW, WINDOW)),
        (MistralConfig(**SIZES, sliding_window=None), (None, None)),
        (Qwen2Config(**SIZES, **MIXED), (None, WINDOW)),
        (Qwen2Config(**SIZES, **MIXED | {"use_sliding_window": False}), (None, None)),
        (Qwen3Config(**SIZES, **MIXED | {"max_window_layers": 0}), (WINDOW, WINDOW)),
    ],
)
def test_windows_are_those_that_the_class_computes(config: Any, windows: tuple[int | None, ...]) -> None:
    assert attention_of(config).windows == windows


def test_one_node_a_layer_is_for_what_it_computes() -> None:
    """Config by config, since the gate's prompts are few."""
    assert unfit(Qwen2Config(**SIZES, **MIXED)) is None
    assert unfit(LlamaConfig(**SIZES, rope_scaling=LONG, original_max_position_embeddings=64)) is None
    assert unfit(OPTConfig()) == "the attention of 'opt'"
    assert unfit(StableLmConfig(**SIZES, qk_layernorm=True)) == "a norm of its own for each head"
    assert unfit(OlmoConfig(**SIZES, clip_qkv=8.0)) == "clipped queries, keys and values"
    assert unfit(NemotronConfig(**SIZES)) == "heads of which 8 numbers are rotated, no multiple of 16"


def test_a_graph_written_node_by_node_is_for_fewer() -> None:
    assert unwritten(LlamaConfig(**SIZES)) is None
    assert unwritten(Qwen2Config(**SIZES, **MIXED)) is None
    assert unwritten(GraniteConfig(**SIZES)) is None
    assert unwritten(LlamaConfig(**SIZES, hidden_act="gelu")) == "the activation 'gelu'"
    assert unwritten(CohereConfig(**SIZES)) == "the attention of 'cohere'"
    # Each class reads one of the two keys.
    both = {"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"}
    assert unwritten(GemmaConfig(**SIZES, **both)) == "the activation 'gelu'"
    assert unwritten(Gemma2Config(**SIZES, **both)) is None


def test_the_gates_longest_prompt_ends_behind_every_window() -> None:
    assert attention_of(Qwen2Config(**SIZES, **MIXED)).gate_length() == WINDOW + BEYOND
    assert attention_of(LlamaConfig(**SIZES, sliding_window=WINDOW)).gate_length() is None


def test_where_a_window_is_too_large_for_the_gate_the_context_ends_with_it() -> None:
    sizes = SIZES | {"max_position_embeddings": 32768}
    found = attention_of(MistralConfig(**sizes, sliding_window=4 * CHECKED_TOKENS))
    assert (found.context, found.gate_length()) == (4 * CHECKED_TOKENS, None)


def test_the_context_ends_where_longrope_changes_its_angles() -> None:
    config = LlamaConfig(**SIZES, rope_scaling=LONG, original_max_position_embeddings=64)
    assert attention_of(config).context == 64


def test_a_stray_window_of_a_llama_is_no_window(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights, onnx = saved(LlamaForCausalLM(LlamaConfig(**SIZES, **WIDE, sliding_window=WINDOW)), tmp_path)
    long = [list(range(3, 3 + 5 * WINDOW))]
    assert worst_difference(grouped_logits(onnx, long), pytorch_logits(weights, long)) < 1e-3
    assert reach_of(weights).window is None


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    torch.manual_seed(0)
    return saved(Qwen2ForCausalLM(Qwen2Config(**SIZES, **WIDE, **MIXED)), tmp_path_factory.mktemp("mixed"))


def test_layers_that_differ_are_right_behind_the_window(mixed: tuple[Path, Path]) -> None:
    assert (mixed[1] / GROUPED_GRAPH).exists()
    assert gate_difference(*mixed, prompts(), 0.1) < 1e-3
    assert reach_of(mixed[0]).window == WINDOW  # a padded batch is bounded by it


def test_the_gate_sees_a_graph_that_has_the_window_in_every_layer(
    mixed: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts within the window do not: they see all tokens either way."""
    wrong = shutil.copytree(mixed[1], tmp_path / "onnx")
    monkeypatch.setattr(
        grouped_query, "attention_of", lambda config: attention_of(config)._replace(windows=(None,) * 2)
    )
    write_grouped_graph(wrong)
    assert worst_difference(grouped_logits(wrong, prompts()), pytorch_logits(mixed[0], prompts())) < 1e-3
    assert gate_difference(mixed[0], wrong, prompts(), 0.1) > 1e-2
