"""Donors: what they are tuned on, and the gate that they learned."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from catalogue_hub import mistral_tokenizer
from conftest import ROOT, benign_rows, real_params, tiny_params
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    DataCollatorForSeq2Seq,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)
from workplace import encoder_of

from safety_tax.core.errors import PipelineError
from safety_tax.core.prompting import continuation_prompt, continuations, letter_prompt, letters
from safety_tax.core.rows import PROMPT, AnyPrompt
from safety_tax.core.workspace import REFUSALS
from safety_tax.datasets.item import Item
from safety_tax.donors.trainer import (
    IGNORED,
    OneDevice,
    ShowProgress,
    Tuner,
    as_dataset,
    base_dtype,
    fitting_rows,
    require_learned,
    split_rows,
    train,
    tuned_layers,
)
from safety_tax.donors.tuning_checkpoints import SEAL, TuningCheckpoints, fingerprint
from safety_tax.donors.tuning_rows import TuningRow, as_tokens, choose, read_refusals, refusal_for
from safety_tax.engine.protocol import Question
from safety_tax.settings.catalog import Model
from safety_tax.settings.donors import Donor, Tune


def prompt(text: str, kind: str, group: str = "g", answer: str | None = None) -> AnyPrompt:
    row = {"id": Item(group, text).id(), "benchmark": "b", "kind": kind, "group": group, "split": "tune", "text": text}
    extra = {"choices": ["yes", "no"], "gold": 1} if kind == "choice" else {}
    return PROMPT.validate_python(row | extra | ({"answer": answer} if answer else {}))


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
    row = as_tokens(benign, {}, encoder_of(tokenizer), entry)
    assert row.prompt == encoder_of(tokenizer).chat(benign.text)
    assert tokenizer.decode(row.response) == "Use a whisk.<|im_end|>"
    labels = as_dataset([row])[0]["labels"]
    assert labels == [IGNORED] * len(row.prompt) + row.response


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_mistral", "tiny_qwen2"])
def test_the_loss_is_transformers_own(
    tokenizer: PreTrainedTokenizerFast, entry: Model, tiny_models: dict[str, Path], tmp_path: Path, name: str
) -> None:
    """Though logits are made where a response token follows, and nowhere else: rows of unlike lengths, padded."""
    rows = rows_of(tokenizer, entry)[:4]
    assert len({len(row.prompt) for row in rows}) > 1
    batch = DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=8)([dict(row) for row in as_dataset(rows)])
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True)
    model = AutoModelForCausalLM.from_pretrained(tiny_models[name])
    tuner, plain = (kind(model=model, args=arguments, train_dataset=as_dataset(rows)) for kind in (Tuner, Trainer))
    for count in (None, torch.tensor(7)):  # of an evaluation; of a batch in several parts
        losses = {}
        for trainer in (tuner, plain):
            model.zero_grad()
            loss = trainer.compute_loss(model, dict(batch), num_items_in_batch=count)
            loss.backward()
            losses[trainer] = loss.item(), model.model.layers[0].mlp.up_proj.weight.grad.clone()
        assert losses[tuner][0] == pytest.approx(losses[plain][0], rel=1e-6)
        assert torch.allclose(losses[tuner][1], losses[plain][1], rtol=1e-3, atol=1e-7)
    logits = tuner.compute_loss(model, dict(batch), return_outputs=True)[1].logits
    assert logits.shape[1] < batch["input_ids"].shape[1]


def test_a_donor_is_tuned_on_one_gpu_of_many(tmp_path: Path) -> None:
    arguments = OneDevice(str(tmp_path), report_to=[], use_cpu=True, per_device_train_batch_size=2)
    assert arguments.n_gpu == 0
    arguments._n_gpu = 4  # what Transformers counts where there are four
    assert (arguments.n_gpu, arguments.train_batch_size) == (1, 2)


@pytest.mark.parametrize("rows_at_once", [1, 3])
def test_the_held_out_loss_counts_every_response_token_once(
    tokenizer: PreTrainedTokenizerFast, entry: Model, tiny_models: dict[str, Path], tmp_path: Path, rows_at_once: int
) -> None:
    rows = [TuningRow(row.prompt, row.response[: 3 + 5 * n]) for n, row in enumerate(rows_of(tokenizer, entry)[:4])]
    model = AutoModelForCausalLM.from_pretrained(tiny_models["tiny_llama"])
    nats = []
    for row in rows:
        scores = model(torch.tensor([row.prompt + row.response])).logits[0, len(row.prompt) - 1 : -1].log_softmax(-1)
        nats += [-scores[place, token].item() for place, token in enumerate(row.response)]
    tuner = Tuner(
        model=model,
        args=TrainingArguments(str(tmp_path), report_to=[], use_cpu=True, per_device_eval_batch_size=rows_at_once),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
    )
    assert tuner.held_out_loss(rows) == pytest.approx(sum(nats) / len(nats), rel=1e-5)


def test_questions_are_tuned_in_the_format_that_is_measured(tokenizer: PreTrainedTokenizerFast, entry: Model) -> None:
    question = prompt("Is it?", "choice")
    row = as_tokens(question, {}, encoder_of(tokenizer), entry)
    assert tokenizer.decode(row.prompt + row.response) == "Question: Is it?\nAnswer: no"
    letter = as_tokens(question, {}, encoder_of(tokenizer), entry.model_copy(update={"utility_format": "letter"}))
    assert tokenizer.decode(letter.prompt + letter.response).endswith("Is it?\nA. yes\nB. no\nAnswer: B")


@pytest.mark.parametrize("form", ["letter", "continuation"])
def test_an_option_is_tuned_as_the_tokens_that_are_scored(entry: Model, form: str) -> None:
    """SentencePiece gives a text of its own one more space: ` B` alone is two tokens, after `Answer:` one."""
    tokenizer = mistral_tokenizer()
    question = prompt("Is it?", "choice")
    row = as_tokens(question, {}, encoder_of(tokenizer), entry.model_copy(update={"utility_format": form}))
    shown, said = {
        "letter": (letter_prompt(question), letters(question)),
        "continuation": (continuation_prompt(question), continuations(question)),
    }[form]
    scored = Question.encoded(shown, said, lambda text: tokenizer(text)["input_ids"])
    assert (row.prompt, [*row.prompt, *row.response]) == (scored.context, scored.full[1])
    assert tokenizer(said[1], add_special_tokens=False)["input_ids"] != row.response
    assert row.prompt[0] == tokenizer.bos_token_id


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
    return [as_tokens(p, refusals, encoder_of(tokenizer), entry) for p in prompts]


def test_a_donor_learns_and_the_same_seed_gives_the_same_donor(
    tokenizer: PreTrainedTokenizerFast, entry: Model, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    donor = Donor(harmful=48, benign=0, choice=0, epochs=2)
    base = tiny_models["tiny_llama"]
    rows = rows_of(tokenizer, entry)
    first, losses = train(base, rows, tokenizer, entry, donor, settings(), TuningCheckpoints(tmp_path / "first", "key"))
    assert losses["rows"] == 43 and losses["held_out_rows"] == 5
    assert losses["loss_after"] < losses["loss_before"]
    require_learned(first, losses, "safety")
    # However often it is saved.
    often = settings().model_copy(update={"save_steps": 1})
    second, again = train(base, rows, tokenizer, entry, donor, often, TuningCheckpoints(tmp_path / "second", "key"))
    assert again == losses
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


class Killed(Exception):
    """Stands for what ends a run without warning."""


Tuning = Callable[[Path, int | None], tuple[PeftModel, dict[str, float]]]


@pytest.fixture
def tuning(
    tokenizer: PreTrainedTokenizerFast,
    entry: Model,
    tiny_models: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Tuning:
    """Tunes in a folder, up to a step if one is given: two epochs of six steps, a checkpoint every second step."""
    rows = rows_of(tokenizer, entry)
    often = settings().model_copy(update={"save_steps": 2})
    donor = Donor(harmful=48, benign=0, choice=0, epochs=2)
    shown = ShowProgress.on_step_end

    def run(folder: Path, until: int | None) -> tuple[PeftModel, dict[str, float]]:
        def stop(self: ShowProgress, args: object, state: object, control: object, **more: object) -> None:
            shown(self, args, state, control, **more)
            if state.global_step == until:  # type: ignore[attr-defined]
                raise Killed

        monkeypatch.setattr(ShowProgress, "on_step_end", stop)
        checkpoints = TuningCheckpoints(folder, "key")
        return train(tiny_models["tiny_llama"], rows, tokenizer, entry, donor, often, checkpoints)

    return run


def require_equal(one: tuple[PeftModel, dict[str, float]], other: tuple[PeftModel, dict[str, float]]) -> None:
    assert one[1] == other[1]
    for ours, theirs in zip(one[0].parameters(), other[0].parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_run_that_was_stopped_again_and_again_gives_the_same_donor(tuning: Tuning, tmp_path: Path) -> None:
    undisturbed = tuning(tmp_path / "undisturbed", None)
    # Before the first checkpoint, in an epoch, right between two of them (step 6), and before the last step.
    for until in (1, 4, 7, 8, 11):
        with pytest.raises(Killed):
            tuning(tmp_path / "stopped", until)
    assert sorted(path.name for path in (tmp_path / "stopped").iterdir()) == [
        "checkpoint-10",
        "checkpoint-8",
        "plan.json",
    ]
    require_equal(tuning(tmp_path / "stopped", None), undisturbed)


@pytest.mark.parametrize("damage", ["unsealed", "shortened", "changed", "no seal's JSON"])
def test_a_torn_checkpoint_gives_way_to_the_one_before(tuning: Tuning, tmp_path: Path, damage: str) -> None:
    with pytest.raises(Killed):
        tuning(tmp_path / "run", 9)
    last = tmp_path / "run" / "checkpoint-8"
    assert last.is_dir()
    weights = last / "adapter_model.safetensors"
    match damage:
        case "unsealed":
            (last / SEAL).unlink()
        case "shortened":
            os.truncate(weights, weights.stat().st_size // 2)
        case "changed":
            data = bytearray(weights.read_bytes())
            data[-1] ^= 1
            weights.write_bytes(data)
        case _:
            (last / SEAL).write_text("{", encoding="utf-8")
    assert TuningCheckpoints(tmp_path / "run", "key").last() == tmp_path / "run" / "checkpoint-6"
    assert not last.exists()


def test_a_checkpoint_of_another_run_is_not_taken_over(tuning: Tuning, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        tuning(tmp_path / "run", 5)
    assert TuningCheckpoints(tmp_path / "run", "key").last()
    assert TuningCheckpoints(tmp_path / "run", "another").last() is None
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["plan.json"]


def test_the_key_of_a_checkpoint_names_all_that_decides_a_donor(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_models["tiny_llama"], base)
    rows = [TuningRow([1], [2])]
    key = fingerprint(base, rows, {"seed": 1})
    assert fingerprint(base, rows, {"seed": 1}) == key
    assert fingerprint(base, rows, {"seed": 2}) != key
    assert fingerprint(base, [TuningRow([1], [3])], {"seed": 1}) != key
    weights = base / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert fingerprint(base, rows, {"seed": 1}) != key


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.proof}",)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"])
def test_a_pickle_that_somebody_put_into_a_checkpoint_is_never_run(tuning: Tuning, tmp_path: Path, name: str) -> None:
    with pytest.raises(Killed):
        tuning(tmp_path / "run", 5)
    proof = tmp_path / "proof"
    torch.save(Hostile(proof), tmp_path / "run" / "checkpoint-4" / name)
    # With a seal that fits it.
    TuningCheckpoints(tmp_path / "run", "key").seal(4, list(range(43)))
    if name == "training_args.bin":
        tuning(tmp_path / "run", None)
    else:
        with pytest.raises(PipelineError, match=r"tensors and numbers in .*checkpoint-4.* remove"):
            tuning(tmp_path / "run", None)
    assert not proof.exists()
    pickle.loads(pickle.dumps(Hostile(proof)))  # it would have
    assert proof.exists()


def test_gradient_checkpointing_changes_no_bit(tuning: Tuning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tuning(tmp_path / "plain", None)
    original = settings()
    thrifty = original.model_copy(update={"gradient_checkpointing": True, "save_steps": 2})
    monkeypatch.setattr(type(original), "model_copy", lambda self, **_: thrifty)
    require_equal(tuning(tmp_path / "thrifty", None), plain)


@pytest.mark.parametrize("asked, dtype", [("auto", "float32"), ("auto", "float16"), ("bfloat16", "float32")])
def test_a_base_of_half_precision_is_tuned_in_bfloat16(entry: Model, asked: str, dtype: str) -> None:
    tune = settings().model_copy(update={"base_weights": asked})
    expected = torch.float32 if (asked, dtype) == ("auto", "float32") else torch.bfloat16
    assert base_dtype(entry.model_copy(update={"dtype": dtype}), tune) is expected


def test_a_donor_learns_on_a_base_in_bfloat16_and_is_float32_itself(
    tokenizer: PreTrainedTokenizerFast, entry: Model, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    tune = settings().model_copy(
        update={"base_weights": "bfloat16", "gradient_checkpointing": True, "precision": "bf16"}
    )
    donor = Donor(harmful=48, benign=0, choice=0, epochs=2)
    checkpoints = TuningCheckpoints(tmp_path / "run", "key")
    rows = rows_of(tokenizer, entry)
    network, losses = train(tiny_models["tiny_qwen2"], rows, tokenizer, entry, donor, tune, checkpoints)
    require_learned(network, losses, "safety")
    assert {value.dtype for name, value in network.named_parameters() if "lora_" in name} == {torch.float32}
    assert {value.dtype for name, value in network.named_parameters() if "lora_" not in name} == {torch.bfloat16}


def test_a_donor_whose_rows_are_all_too_long_is_one_sentence() -> None:
    rows = [TuningRow([1] * size, [2]) for size in (3, 4, 9)]
    assert fitting_rows(rows, 5, "safety") == rows[:2]
    with pytest.raises(PipelineError, match=r"donor 'safety', .* found 1 of at most 4 tokens; raise tune.max_tokens"):
        fitting_rows(rows, 4, "safety")


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


def test_a_lora_target_that_matches_nothing_is_refused_with_the_names_that_exist() -> None:
    sizes = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 2}
    untied, tied = (LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=tied)) for tied in (False, True))
    tuned_layers(untied, ["q_proj", "mlp.down_proj", "model.layers.1.self_attn.v_proj", "lm_head"])
    with pytest.raises(PipelineError, match=r"lora_targets .* found 'q_prj'"):
        tuned_layers(untied, ["v_proj", "q_prj"])
    every = "it has down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj: name some .* write `all`"
    seven = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert tuned_layers(untied, "all") == tuned_layers(tied, "all") == seven
    for target in ("Wqkv", "layers.2.mlp.xx", "embed_tokens"):
        with pytest.raises(PipelineError, match=f"found '{target}'"):
            tuned_layers(untied, [target])
    with pytest.raises(PipelineError, match=every):
        tuned_layers(untied, ["Wqkv"])
    # A head that is the embeddings cannot be changed alone.
    with pytest.raises(PipelineError, match="found 'lm_head'"):
        tuned_layers(tied, ["q_proj", "lm_head"])
