"""Qwen3, whose queries and keys are normed head by head: both graphs for a CPU against Transformers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EXPORT, SIZES
from engines import Limits, answered, scored
from test_inference import direct_logprob
from transformers import Qwen3Config, Qwen3ForCausalLM

from safety_tax.engine.gqa.tree import Tree
from safety_tax.engine.plain.engine import Plain
from safety_tax.engine.protocol import Question
from safety_tax.engine.session import CPU
from safety_tax.model_files.bringing import check
from safety_tax.onnx.exporting import export_base
from safety_tax.onnx.parity import largest_difference

STOP = 2


def prompts(count: int) -> list[list[int]]:
    """Random tokens, of 5 to 40 a prompt, which begin alike two by two."""
    draw = np.random.default_rng(0)
    starts = [draw.integers(3, 600, 4).tolist() for _ in range((count + 1) // 2)]
    return [starts[n // 2] + draw.integers(3, 600, draw.integers(1, 37)).tolist() for n in range(count)]


@pytest.fixture(scope="module", params=["tied", "untied"])
def qwen3(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(weights, ONNX) of a model of random weights, large enough that its attention and its logits are far from flat.

    As in Qwen3-0.6B, all heads together are wider than the model: 4 of 32 for a width of 64.
    """
    folder = tmp_path_factory.mktemp("qwen3")
    torch.manual_seed(3)
    sizes = SIZES | {"head_dim": 32, "initializer_range": 0.3}
    network = Qwen3ForCausalLM(Qwen3Config(**sizes, tie_word_embeddings=request.param == "tied"))
    for name, weight in network.named_parameters():
        if "norm" in name:  # a new model's norms are all ones, and could be swapped unseen
            weight.data.uniform_(0.5, 2.0)
    network.save_pretrained(folder / "weights")
    (folder / "onnx").mkdir()
    export_base(folder / "weights", "float32", EXPORT, folder / "onnx")
    return folder / "weights", folder / "onnx"


def test_qwen3_passes_the_gates_of_fetch_and_export(qwen3: tuple[Path, Path]) -> None:
    network = Qwen3ForCausalLM.from_pretrained(qwen3[0])
    assert check(qwen3[0]) == sum(weight.numel() for weight in network.parameters())
    assert largest_difference(*qwen3, prompts(4)) < 1e-3


def test_qwen3s_logits_here_are_far_from_flat(qwen3: tuple[Path, Path]) -> None:
    """Or the comparisons below would see little."""
    network = Qwen3ForCausalLM.from_pretrained(qwen3[0]).eval()
    with torch.inference_mode():
        likely = [network(torch.tensor([prompt])).logits[0, -1].softmax(-1).max().item() for prompt in prompts(12)]
    assert min(likely) > 20 / SIZES["vocab_size"]


ENGINES = pytest.mark.parametrize("engine", [Plain, Tree])


@ENGINES
def test_qwen3_writes_what_transformers_writes(engine: type[Plain] | type[Tree], qwen3: tuple[Path, Path]) -> None:
    asked = prompts(12)
    ours = answered(engine(qwen3[1], CPU), asked, frozenset([STOP]), Limits(20, 4096, 5))
    network = Qwen3ForCausalLM.from_pretrained(qwen3[0])
    for prompt, generated in zip(asked, ours, strict=True):
        ids = torch.tensor([prompt])
        mask = torch.ones_like(ids)
        theirs = network.generate(ids, attention_mask=mask, max_new_tokens=20, do_sample=False, pad_token_id=STOP)
        assert generated.tokens == [token for token in theirs[0, len(prompt) :].tolist() if token != STOP]
    assert len({tuple(generated.tokens) for generated in ours}) == len(ours)


@ENGINES
def test_qwen3s_option_scores_are_those_of_transformers(
    engine: type[Plain] | type[Tree], qwen3: tuple[Path, Path]
) -> None:
    network = Qwen3ForCausalLM.from_pretrained(qwen3[0]).eval()
    asked = [Question(context, [[*context, 7], [*context, 8, 9, 10], [*context, 8, 11]]) for context in prompts(10)]
    found = scored(engine(qwen3[1], CPU), asked, 256)
    for question, scores in zip(asked, found, strict=True):
        expected = [direct_logprob(network, question.context, full) for full in question.full]
        assert scores.logprobs == pytest.approx(expected, abs=1e-3)
