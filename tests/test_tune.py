"""Donors: what they are tuned on, and the gate that they learned."""

import json
from pathlib import Path

import pytest
import torch
from conftest import ROOT, benign_rows, real_params, tiny_params
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from stages.lib.datasets.item import Item
from stages.lib.errors import PipelineError
from stages.lib.params import Donor, Model, Tune
from stages.lib.prompting import chat_token_ids
from stages.lib.rows import Prompt
from stages.lib.tuning_rows import REFUSALS, TuningRow, as_tokens, choose, read_refusals, refusal_for
from stages.tune import IGNORED, as_dataset, require_learned, split_rows, train


def prompt(text: str, kind: str, group: str = "g", answer: str | None = None) -> Prompt:
    row = {"id": Item(group, text).id(), "benchmark": "b", "kind": kind, "group": group, "split": "tune", "text": text}
    extra = {"choices": ["yes", "no"], "gold": 1} if kind == "choice" else {}
    return Prompt.model_validate(row | extra | ({"answer": answer} if answer else {}))


@pytest.fixture
def entry(tiny_models: dict[str, Path]) -> Model:
    return Model.model_validate(tiny_params(tiny_models)["catalog"]["tiny_llama"])


def test_refusals_vary_and_fit_their_category() -> None:
    refusals = read_refusals(ROOT / REFUSALS)
    prompts = [prompt(f"prompt number {n}", "harmful", group="information_hazard") for n in range(200)]
    chosen = {refusal_for(p, refusals) for p in prompts}
    assert len(chosen) > 40
    assert chosen <= set(refusals["general"]) | set(refusals["information_hazard"])
    assert refusal_for(prompts[0], refusals) == refusal_for(prompts[0], refusals)


def test_every_group_of_harmful_prompts_has_refusals() -> None:
    assert set(read_refusals(ROOT / REFUSALS)) == {
        "general",
        "malicious_uses",
        "information_hazard",
        "discrimination_exclusion_toxicity_hateful_offensive",
        "misinformation_harms",
        "human_chatbox",
    }


def test_only_response_tokens_count_in_the_loss(tokenizer: PreTrainedTokenizerFast, entry: Model) -> None:
    benign = prompt("How do I beat eggs?", "benign", answer="Use a whisk.")
    row = as_tokens(benign, {}, tokenizer, entry, "m")
    assert row.prompt == chat_token_ids(tokenizer, benign.text, "m")
    assert tokenizer.decode(row.response) == "Use a whisk.<|im_end|>"
    labels = as_dataset([row])[0]["labels"]
    assert labels == [IGNORED] * len(row.prompt) + row.response


def test_questions_are_tuned_in_the_format_that_is_measured(tokenizer: PreTrainedTokenizerFast, entry: Model) -> None:
    question = prompt("Is it?", "choice")
    row = as_tokens(question, {}, tokenizer, entry, "m")
    assert tokenizer.decode(row.prompt + row.response) == "Question: Is it?\nAnswer: no"
    letter = as_tokens(question, {}, tokenizer, entry.model_copy(update={"utility_format": "letter"}), "m")
    assert tokenizer.decode(letter.prompt + letter.response).endswith("Is it?\nA. yes\nB. no\nAnswer: B")


def test_too_few_rows_are_named() -> None:
    donor = Donor(harmful=3, benign=0, choice=0, epochs=1)
    with pytest.raises(PipelineError, match=r"3 harmful tuning rows .* found 1; lower donors\.safety\.harmful"):
        choose([prompt("a", "harmful")], donor, "safety")


def settings() -> Tune:
    return Tune.model_validate(
        real_params()["tune"] | {"rank": 4, "alpha": 8, "learning_rate": 0.01, "precision": "float32"}
    )


def rows_of(tokenizer: PreTrainedTokenizerFast, entry: Model) -> list[TuningRow]:
    prompts = [prompt(row["text"], "harmful", "general") for row in benign_rows()[:48]]
    refusals = read_refusals(ROOT / REFUSALS)
    return [as_tokens(p, refusals, tokenizer, entry, "m") for p in prompts]


def test_a_donor_learns_and_the_same_seed_gives_the_same_donor(
    tokenizer: PreTrainedTokenizerFast, entry: Model, tiny_models: dict[str, Path]
) -> None:
    donor = Donor(harmful=48, benign=0, choice=0, epochs=2)
    base = tiny_models["tiny_llama"]
    first, losses = train(base, rows_of(tokenizer, entry), tokenizer, entry, donor, settings())
    assert losses["rows"] == 43 and losses["held_out_rows"] == 5
    assert losses["loss_after"] < losses["loss_before"]
    require_learned(first, losses, "safety")
    second, again = train(base, rows_of(tokenizer, entry), tokenizer, entry, donor, settings())
    assert again == losses
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_rows_held_out_are_not_trained_on() -> None:
    rows = [TuningRow([n], [n]) for n in range(20)]
    trained, held = split_rows(rows, settings())
    assert sorted(trained + held) == rows
    assert len(held) == 2


def test_a_donor_that_did_not_learn_is_refused(tiny_models: dict[str, Path]) -> None:
    network = AutoModelForCausalLM.from_pretrained(tiny_models["tiny_llama"])
    from peft import LoraConfig, get_peft_model

    untouched = get_peft_model(network, LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(PipelineError, match="to learn"):
        require_learned(untouched, {"loss_before": 2.0, "loss_after": 1.0}, "safety")
    for name, value in untouched.named_parameters():
        if "lora_B" in name:
            value.data.fill_(1.0)
    require_learned(untouched, {"loss_before": 2.0, "loss_after": 1.0}, "safety")
    with pytest.raises(PipelineError, match=r"2\.000 before and 2\.500 after"):
        require_learned(untouched, {"loss_before": 2.0, "loss_after": 2.5}, "safety")
    for name, value in untouched.named_parameters():
        if "lora_B" in name:
            value.data.fill_(float("nan"))
    with pytest.raises(PipelineError, match="NaN or infinity"):
        require_learned(untouched, {"loss_before": 2.0, "loss_after": 1.0}, "safety")


def test_refusals_are_distinct() -> None:
    texts = [json.loads(line)["text"] for line in (ROOT / REFUSALS).read_text(encoding="utf-8").splitlines()]
    assert len(set(texts)) == len(texts) == 144
