"""A model with a sliding window: where its exported graph is right, and that the rest is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_export import exported
from transformers import MistralConfig, MistralForCausalLM

from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import ChatPrompt
from safety_tax.engine.batches import right_padded
from safety_tax.engine.item_checks import Faults, check_window, reach_of
from safety_tax.engine.plain.session import PlainSession
from safety_tax.engine.session import CPU
from safety_tax.onnx.parity import largest_difference, pytorch_logits

WINDOW = 24


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(weights, ONNX) of a Mistral whose attention is far from uniform, with Mistral-7B-v0.1's kind of window."""
    sizes = {"vocab_size": 600, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048}
    config = MistralConfig(**sizes, tie_word_embeddings=False, sliding_window=WINDOW, initializer_range=0.3)
    folder = tmp_path_factory.mktemp("windowed")
    torch.manual_seed(0)
    MistralForCausalLM(config).save_pretrained(folder / "weights")
    return folder / "weights", exported(folder / "weights", folder / "onnx")


def error_after_padding(windowed: tuple[Path, Path], lengths: tuple[int, int], more: int) -> float:
    """Largest difference to PyTorch, alone, at `more` tokens that follow two prompts of a right-padded batch."""
    draw = np.random.default_rng(0)
    prompts = [draw.integers(3, 600, length).tolist() for length in lengths]
    following = draw.integers(3, 600, (2, more))
    session = PlainSession(windowed[1], CPU)
    tokens, mask = right_padded(prompts)
    places = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    past = session.run(tokens, mask, places, places, session.empty_past(2)).past
    mask = np.concatenate([mask, np.ones_like(following)], axis=1)
    columns = np.broadcast_to(np.arange(more), following.shape)
    found = session.run(following, mask, np.array(lengths)[:, None] + columns, columns, past).logits
    expected = pytorch_logits(windowed[0], [[*a, *b] for a, b in zip(prompts, following.tolist(), strict=True)])
    return max(float(np.abs(f - e[-more:]).max()) for f, e in zip(found, expected, strict=True))


def test_a_row_alone_is_right_far_beyond_the_window(windowed: tuple[Path, Path]) -> None:
    assert largest_difference(*windowed, [list(range(3, 3 + 4 * WINDOW))]) < 1e-3


def test_a_padded_batch_is_right_within_the_window(windowed: tuple[Path, Path]) -> None:
    assert error_after_padding(windowed, (16, 9), WINDOW - 16) < 1e-3


def test_a_padded_batch_beyond_the_window_would_be_wrong(windowed: tuple[Path, Path]) -> None:
    """Why `check_window` is there: once this fails, it can go."""
    assert error_after_padding(windowed, (20, 12), 8) > 1


def test_what_exceeds_the_window_is_refused(windowed: tuple[Path, Path], tiny_models: dict[str, Path]) -> None:
    item = ChatPrompt(id="p1", benchmark="b", kind="harmful", group="g", split="eval", text="t")
    faults, reach = Faults(), reach_of(windowed[0])
    check_window([[1] * 16], [item], 8, "max_new_tokens", reach, faults)
    check_window(
        [[1] * 1700], [item], 8, "max_new_tokens", reach_of(tiny_models["tiny_mistral"]), faults
    )  # it has none
    faults.require_none()
    check_window([[1] * 17], [item], 8, "max_new_tokens", reach, faults)
    with pytest.raises(PipelineError, match=r"at most 24 tokens, the model's sliding window, found 17 .* item p1"):
        faults.require_none()
