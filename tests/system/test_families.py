"""Each family from end to end: fetched, tuned, merged, exported; answers and scores against Transformers' own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import EXPORT, SIZES, real_params
from engines import Limits, answered, scored
from families import BY_DEFAULT, FAMILIES, Family
from peft import PeftModel
from test_inference import ENTRY, direct_logprob
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from safety_tax.core.tensor_files import Checkpoint
from safety_tax.donors.opening import open_donor
from safety_tax.donors.trainer import train
from safety_tax.donors.tuning_checkpoints import TuningCheckpoints
from safety_tax.donors.tuning_rows import TuningRow
from safety_tax.engine.gqa.rows import Rows
from safety_tax.engine.gqa.session import GROUPED_GRAPH
from safety_tax.engine.gqa.tree import Tree
from safety_tax.engine.item_checks import reach_of
from safety_tax.engine.plain.engine import Plain
from safety_tax.engine.protocol import Engine, Question
from safety_tax.engine.session import CPU
from safety_tax.merging.merge import Ingredients, copy_companions, merge
from safety_tax.merging.methods import RECIPE_TYPES
from safety_tax.merging.resume import WorkFolder
from safety_tax.model_files.attention import unfit, unwritten
from safety_tax.model_files.bringing import check
from safety_tax.onnx.exporting import export_base
from safety_tax.onnx.linking import link_variant
from safety_tax.onnx.parity import gate_difference
from safety_tax.onnx.rows_export import write_rows_graph
from safety_tax.settings.catalog import Model
from safety_tax.settings.donors import Donor, Tune

STOP, ANSWER = 2, 8
ROWS = [
    pytest.param(family, id=name, marks=() if place < BY_DEFAULT else pytest.mark.slow)
    for place, (name, family) in enumerate(FAMILIES.items())
]

PLAIN_ON_CPU = {"stablelm_12b", "gpt_oss", "gpt_neox", "gpt2", "falcon", "phi", "opt", "gptj"}
FAST_ON_GPU = {
    *("nemo", "qwen3", "gemma2", "phi4", "gemma3", "llama2", "llama31", "mistral_v1", "mistral_v3", "qwen25"),
    *("phi35", "olmo2", "olmo3", "granite", "smollm3", "gemma"),
}


def test_these_have_the_fast_graphs() -> None:
    assert {name for name, family in FAMILIES.items() if unfit(family.config()) is not None} == PLAIN_ON_CPU
    assert {name for name, family in FAMILIES.items() if unwritten(family.config()) is None} == FAST_ON_GPU


def prompts(count: int, most: int) -> list[list[int]]:
    """Random tokens, of 5 to `most` a prompt, which begin alike two by two."""
    draw = np.random.default_rng(0)
    starts = [draw.integers(3, 600, 4).tolist() for _ in range((count + 1) // 2)]
    return [starts[n // 2] + draw.integers(3, 600, draw.integers(1, most - 3)).tolist() for n in range(count)]


def tuned(base: Path, folder: Path, entry: Model, tokenizer: PreTrainedTokenizerFast) -> None:
    """A donor of `lora_targets: all`, after three steps."""
    settings = real_params()["tune"] | {"rank": 2, "alpha": 16, "learning_rate": 0.01, "precision": "float32"}
    settings |= {"batch_size": 4, "accumulation": 1, "base_weights": "float32", "gradient_checkpointing": False}
    rows = [TuningRow(prompt, [7, 8, 9, STOP]) for prompt in prompts(13, 12)]
    donor = Donor(harmful=13, benign=0, choice=0, epochs=1)
    checkpoints = TuningCheckpoints(folder.with_name("runs"), "key")
    network, _ = train(base, rows, tokenizer, entry, donor, Tune.model_validate(settings), checkpoints)
    network.save_pretrained(str(folder))


def merged_with(base: Path, donor: Path, folder: Path) -> Path:
    """By task arithmetic, at full weight."""
    ours = Checkpoint(base)
    recipe = RECIPE_TYPES["task_arithmetic"].model_validate({"method": "task_arithmetic", "donors": {"safety": 1.0}})
    work = WorkFolder(folder, "key")
    merge(Ingredients(ours, [open_donor(donor, ours)], recipe), work)
    copy_companions(base, work.model)
    return work.model


@pytest.mark.parametrize("family", ROWS)
def test_a_family_is_measured_as_transformers_runs_it(
    family: Family, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    base, donor, graph = tmp_path / "base", tmp_path / "safety", tmp_path / "graph"
    network = family.network()
    network.save_pretrained(base)
    assert check(base, "m") == sum(weight.numel() for weight in network.parameters())
    entry = Model.model_construct(**ENTRY | {"lora_targets": "all"})
    tuned(base, donor, entry, tokenizer)
    merged = merged_with(base, donor, tmp_path / "work")
    expected = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(donor)).merge_and_unload()
    # The pinned version's other kind of attention leaves out Gemma-2's cap of the scores.
    ours = AutoModelForCausalLM.from_pretrained(merged, attn_implementation="eager").eval()
    for (name, one), other in zip(ours.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6, msg=name)

    reach = reach_of(base)
    longest = min(reach.context, reach.window or reach.context, 40)
    asked = prompts(6, longest - ANSWER)
    for folder in (graph, tmp_path / "variant"):
        folder.mkdir()
    export_base(base, entry.dtype, EXPORT, graph)
    assert gate_difference(base, graph, asked[:2], on_gpu=0.2) < 1e-4
    assert (graph / GROUPED_GRAPH).exists() == (unfit(AutoConfig.from_pretrained(base)) is None)
    written = unwritten(AutoConfig.from_pretrained(base)) is None
    if written:  # which an export writes in 16 bits alone
        write_rows_graph(graph)
    link_variant(merged, graph, tmp_path / "variant")

    require_what_transformers_gives(Plain(tmp_path / "variant", CPU), ours, asked)
    beyond = prompts(6, min(reach.context, 40) - ANSWER)  # behind every window, too
    if (graph / GROUPED_GRAPH).exists():
        require_what_transformers_gives(Tree(tmp_path / "variant", CPU), ours, beyond)
    if written:
        require_what_transformers_gives(Rows(tmp_path / "variant", CPU), ours, beyond)


def require_what_transformers_gives(engine: Engine, network: Any, asked: list[list[int]]) -> None:
    """Answers, and scores of options."""
    require_transformers_answers(engine, network, asked)
    questions = [Question(context, [[*context, 7], [*context, 8, 9, 10], [*context, 8, 11]]) for context in asked]
    for question, scores in zip(questions, scored(engine, questions, 256, 4), strict=True):
        wanted = [direct_logprob(network, question.context, full) for full in question.full]
        assert scores.logprobs == pytest.approx(wanted, abs=5e-5)


def require_transformers_answers(engine: Engine, network: Any, asked: list[list[int]]) -> None:
    """Token for token, of answers that differ from each other, by logits that are far from flat."""
    answers = answered(engine, asked, frozenset([STOP]), Limits(ANSWER, 4096, 5))
    likely = []
    for prompt, generated in zip(asked, answers, strict=True):
        ids = torch.tensor([prompt])
        theirs = network.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=ANSWER,
            do_sample=False,
            pad_token_id=STOP,
            return_dict_in_generate=True,
            output_logits=True,
        )
        assert generated.tokens == [token for token in theirs.sequences[0, len(prompt) :].tolist() if token != STOP]
        likely.append(theirs.logits[0].softmax(-1).max().item())
    assert len({tuple(generated.tokens) for generated in answers}) > 1
    assert np.median(likely) > 8 / SIZES["vocab_size"]
