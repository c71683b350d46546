"""The inference loops against PyTorch and Transformers, and against themselves in other batches."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import EXPORT, benign_rows, change_numbers
from engines import Limits, answered, scored
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from workplace import DATE, encoder_of

from safety_tax.core.errors import PipelineError
from safety_tax.core.prompting import continuation_prompt, letter_prompt
from safety_tax.core.rows import GENERATED, ChoiceQuestion, ChoiceScore
from safety_tax.dispatch.runners import Here, ResumedRun
from safety_tax.dispatch.variant import score_format
from safety_tax.engine.batches import Int64, common_prefix, plan, right_padded
from safety_tax.engine.gqa.tree import Tree
from safety_tax.engine.plain.engine import Plain
from safety_tax.engine.plain.session import Output, PlainSession
from safety_tax.engine.preparing import Asking, Examples, Form, prepare
from safety_tax.engine.protocol import Question, StopText
from safety_tax.engine.rows import asked_in, choice_scores
from safety_tax.engine.session import CPU, CUDA, choose_provider, cuda_options, cuda_problem, external_bytes
from safety_tax.judging.verdicts import outcome, require_same_items, softmax
from safety_tax.onnx.exporting import export_base
from safety_tax.onnx.parity import largest_difference
from safety_tax.settings.catalog import Model
from safety_tax.settings.stages import Infer, NewTokens, Run

INFER = Infer(
    max_new_tokens=NewTokens(**dict.fromkeys(GENERATED, 4)), temperature=0.0, sampling_seed=0, truncate="error"
)
RUN = Run(
    provider="cpu",
    attention="auto",
    generation_tokens=512,
    rows_per_batch=8,
    pass_tokens=256,
    scoring_tokens=512,
    processes=1,
    cluster="none",
)


ENTRY = {
    "dtype": "float32",
    "chat_template": "own",
    "stop": [],
    "benchmarks": "default",
    "shots": 0,
    "problem_format": "chat",
    "max_new_tokens": {},
    "lora_targets": ["q_proj"],
}


def model_entry(utility_format: str = "continuation") -> Model:
    source = {"kind": "folder", "path": "unused"}
    return Model.model_validate({**ENTRY, "source": source, "utility_format": utility_format})


@pytest.fixture(scope="module", params=["tiny_llama", "tiny_mistral", "tiny_qwen2"])
def exported(request: pytest.FixtureRequest, tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """(weights folder, ONNX folder) of one architecture."""
    folder = tmp_path_factory.mktemp("onnx") / request.param
    folder.mkdir()
    export_base(tiny_models[request.param], "float32", EXPORT, folder)
    return tiny_models[request.param], folder


@pytest.fixture(scope="module")
def llama(tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("onnx-llama")
    export_base(tiny_models["tiny_llama"], "float32", EXPORT, folder)
    return tiny_models["tiny_llama"], folder


def prompts_of(tokenizer: PreTrainedTokenizerFast, count: int) -> list[list[int]]:
    return [encoder_of(tokenizer).chat(row["text"]) for row in benign_rows()[:count]]


def questions(count: int) -> list[ChoiceQuestion]:
    rows = benign_rows()[: 4 * count]
    return [
        ChoiceQuestion(
            id=str(n),
            benchmark="b",
            kind="choice",
            group="subject",
            split="eval",
            text=rows[4 * n]["text"],
            choices=[
                " ".join(row["answer"].split()[: 2 + (n + i) % 5]) for i, row in enumerate(rows[4 * n : 4 * n + 4])
            ],
            gold=n % 4,
        )
        for n in range(count)
    ]


def test_the_export_agrees_with_pytorch(exported: tuple[Path, Path], tokenizer: PreTrainedTokenizerFast) -> None:
    assert largest_difference(*exported, prompts_of(tokenizer, 3)) < 1e-4


def test_parity_sees_a_single_changed_weight(
    exported: tuple[Path, Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    weights, onnx = exported
    for file in onnx.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())

    def change(name: str, tensor: np.ndarray) -> np.ndarray:
        other = np.array(tensor)
        if name == "model.layers.1.mlp.up_proj.weight":
            other.flat[other.size // 2] += 5
        return other

    change_numbers(tmp_path, change)
    assert largest_difference(weights, tmp_path, prompts_of(tokenizer, 3)) > 1e-3


def test_generation_equals_transformers_token_for_token(
    exported: tuple[Path, Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    weights, onnx = exported
    prompts = prompts_of(tokenizer, 12)
    ours = answered(Plain(onnx, CPU), prompts, frozenset([2]), Limits(20, 4096, 5))
    network = AutoModelForCausalLM.from_pretrained(weights)
    for prompt, generated in zip(prompts, ours, strict=True):
        theirs = network.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False, pad_token_id=2)
        tokens = theirs[0, len(prompt) :].tolist()
        stopped = tokens[-1] == 2
        assert generated.tokens == (tokens[:-1] if stopped else tokens)
        assert generated.finish_reason == ("stop" if stopped else "length")


def test_no_batch_plan_changes_an_answer(llama: tuple[Path, Path], tokenizer: PreTrainedTokenizerFast) -> None:
    session = Plain(llama[1], CPU)
    prompts = prompts_of(tokenizer, 10)
    alone = answered(session, prompts, frozenset([2]), Limits(16, 4096, 1))
    for limits in (Limits(16, 4096, 64), Limits(16, 200, 3), Limits(16, 1, 64)):
        assert answered(session, prompts, frozenset([2]), limits) == alone
    assert answered(session, prompts[::-1], frozenset([2]), Limits(16, 4096, 64)) == alone[::-1]
    # Nothing in common at the start: no shared prefix at all.
    assert answered(session, [prompts[0][3:], prompts[1]], frozenset([2]), Limits(16, 4096, 8))[1] == alone[1]


def test_no_thread_count_changes_an_answer(
    llama: tuple[Path, Path], tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = prompts_of(tokenizer, 6)
    found = []
    for count in (1, 2, 3):
        monkeypatch.setattr("safety_tax.engine.session.usable_cores", lambda count=count: count)
        session = Plain(llama[1], CPU)
        assert session.session._session.get_session_options().intra_op_num_threads == count
        found.append(answered(session, prompts, frozenset([2]), Limits(16, 4096, 64)))
    assert found[0] == found[1] == found[2]


def test_an_answer_ends_with_a_string_in_it(llama: tuple[Path, Path], tokenizer: PreTrainedTokenizerFast) -> None:
    prompts, limits = prompts_of(tokenizer, 10), Limits(16, 4096, 4)
    plain, grouped = Plain(llama[1], CPU), Tree(llama[1], CPU)
    whole = answered(plain, prompts, frozenset(), limits)
    text = tokenizer.decode(whole[0].tokens)
    stop = StopText((text[len(text) // 2 :][:3],), tokenizer.decode)
    ended = answered(plain, prompts, frozenset(), limits, stop_text=stop)
    assert answered(grouped, prompts, frozenset(), limits, 256, stop_text=stop) == ended
    assert ended[0].finish_reason == "stop" and len(ended[0].tokens) < 16
    for before, after in zip(whole, ended, strict=True):
        holds = stop.strings[0] in tokenizer.decode(before.tokens)
        assert after.finish_reason == ("stop" if holds else "length")
        assert before.tokens[: len(after.tokens)] == after.tokens
        assert stop.before(tokenizer.decode(after.tokens)) == stop.before(tokenizer.decode(before.tokens))
        # No token earlier, and none later.
        assert holds == (stop.strings[0] in tokenizer.decode(after.tokens))
        assert stop.strings[0] not in tokenizer.decode(after.tokens[:-1])


def direct_logprob(network: torch.nn.Module, context: list[int], full: list[int]) -> float:
    with torch.inference_mode():
        logits = network(torch.tensor([full])).logits[0].double().log_softmax(-1)
    return float(sum(logits[place - 1, full[place]] for place in range(len(context), len(full))))


def test_option_scores_equal_pytorchs_on_the_full_text(
    exported: tuple[Path, Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    weights, onnx = exported
    network = AutoModelForCausalLM.from_pretrained(weights).eval()

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    # The last pair shares its first tokens with the other option, and one option is a single token.
    texts = [(continuation_prompt(q), [f" {c}" for c in q.choices or []]) for q in questions(6)]
    texts.append(("Question: which?\nAnswer:", [" the same start one", " the same start two", " a"]))
    asked = [Question.encoded(context, options, encode) for context, options in texts]
    found = scored(Plain(onnx, CPU), asked, 256, 4)
    for question, scores in zip(asked, found, strict=True):
        expected = [direct_logprob(network, question.context, full) for full in question.full]
        assert scores.logprobs == pytest.approx(expected, abs=1e-4)


def test_shots_run_once_in_the_plain_graph(llama: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    network = AutoModelForCausalLM.from_pretrained(llama[0]).eval()
    session, passed = Plain(llama[1], CPU), 0
    whole = PlainSession.run

    def run(self: PlainSession, tokens: Int64, *others: Any) -> Output:
        nonlocal passed
        passed += tokens.size
        return whole(self, tokens, *others)

    shots = [list(range(5, 105)), list(range(200, 290))]
    contexts = [[*shots[n % 2], 300 + n, 7][: 101 + n] for n in range(12)] + [[9, 8, 7], [9, 8, 6, 5]]
    asked = [Question(context, [[*context, 3], [*context, 4, 6]]) for context in contexts]
    monkeypatch.setattr(PlainSession, "run", run)
    found = scored(session, asked, 512, 8)
    # Both beginnings once; of each of the twelve two tokens or one, and of the two others all; an option's first token.
    assert passed <= 100 + 90 + 12 * 2 + 2 * 4 + 14
    monkeypatch.setattr(PlainSession, "run", whole)
    for question, scores in zip(asked, found, strict=True):
        expected = [direct_logprob(network, question.context, full) for full in question.full]
        assert scores.logprobs == pytest.approx(expected, abs=1e-4)
    for scores, backwards in zip(found, scored(session, asked[::-1], 512, 8)[::-1], strict=True):
        assert backwards.logprobs == pytest.approx(scores.logprobs, abs=1e-5)
    for wanted, parts in (({1, 5, 12}, 1), (set(range(14)), 4)):
        assert scored(session, asked, 512, 8, wanted=wanted, parts=parts) == [found[item] for item in sorted(wanted)]


def test_a_token_across_the_contexts_end_is_not_scored_twice(llama: tuple[Path, Path]) -> None:
    network = AutoModelForCausalLM.from_pretrained(llama[0]).eval()
    # As if the tokeniser merged the context's last character with the options' first.
    question = Question([5, 6, 7], [[5, 6, 8, 9, 10], [5, 6, 11, 12]])
    found = scored(Plain(llama[1], CPU), [question], 256, 4)[0]
    assert found.logprobs == pytest.approx([direct_logprob(network, [5, 6, 7], f) for f in question.full], abs=1e-4)


def test_no_batch_plan_changes_a_score(llama: tuple[Path, Path], tokenizer: PreTrainedTokenizerFast) -> None:
    session = Plain(llama[1], CPU)
    asked = [
        Question.encoded(continuation_prompt(q), [f" {c}" for c in q.choices or []], tokenizer.encode)
        for q in questions(9)
    ]
    alone = scored(session, asked, 1, 1)
    together = scored(session, asked, 4096, 64)
    for one, other in zip(alone, together, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_the_mass_of_all_first_tokens_is_one(llama: tuple[Path, Path]) -> None:
    everything = Question([5, 6], [[5, 6, token] for token in range(600)])
    assert scored(Plain(llama[1], CPU), [everything], 256, 4)[0].first_token_mass == pytest.approx(1, abs=1e-6)


def test_both_formats_are_scored_where_they_are_asked_for(llama: tuple[Path, Path]) -> None:
    run = ResumedRun(llama[1], RUN, Here(Plain(llama[1], CPU), RUN))

    def scored(own: Form, other_format: int) -> list[ChoiceScore]:
        asking = Asking.of(llama[1], "tiny_llama", model_entry(own), INFER, RUN, DATE, engine=Plain)
        _, forms = prepare(asking, [], asked_in(own, questions(5), other_format), Examples({}, {}))
        return choice_scores(questions(5), {form: score_format(run, part) for form, part in forms.items()})

    scores = scored("continuation", 2)
    assert [s.letter_logprobs is not None for s in scores] == [True, True, False, False, False]
    assert all(s.continuation_logprobs is not None for s in scores)
    other = scored("letter", 0)
    assert all(s.letter_logprobs is not None and s.continuation_logprobs is None for s in other)


def test_letter_prompt_is_the_published_format() -> None:
    question = questions(1)[0].model_copy(
        update={"text": "Why? ", "choices": ["a", "b", "c", "d"], "group": "world religions"}
    )
    assert letter_prompt(question) == (
        "The following are multiple choice questions (with answers) about world religions.\n\n"
        "Why?\nA. a\nB. b\nC. c\nD. d\nAnswer:"
    )
    assert continuation_prompt(question) == "Question: Why?\nAnswer:"


def test_outcome_of_a_question_by_hand() -> None:
    question = questions(1)[0].model_copy(update={"gold": 1, "choices": ["xx", "y"]})
    scores = ChoiceScore(
        id="0",
        letter_logprobs=[-1.0, -2.0],
        letter_mass=0.5,
        continuation_logprobs=[-3.0, -1.0],
        continuation_bytes=[2, 1],
    )
    verdict = outcome(question, scores, "continuation")
    # Per byte: -1.5 and -1.0, so the second; the letters say the first.
    assert (verdict.letter_correct, verdict.continuation_correct) == (False, True)
    assert verdict.gold_probability == pytest.approx(1 / (1 + np.exp(-0.5)))
    assert verdict.bits_per_byte == pytest.approx(1 / np.log(2))
    assert verdict.options == 2
    tie = scores.model_copy(update={"letter_logprobs": [-1.0, -1.0]})
    assert outcome(question, tie, "letter").letter_correct is False


def test_the_text_of_the_right_option_is_right_wherever_it_stands() -> None:
    question = questions(1)[0].model_copy(update={"gold": 2, "choices": ["12", "8", "12 "]})
    score = ChoiceScore(id="0", letter_logprobs=[-1.0, -2.0, -3.0], continuation_bytes=[2, 1, 2])
    assert outcome(question, score, "letter").letter_correct is True
    tie = score.model_copy(update={"letter_logprobs": [-1.0, -2.0, -1.0]})
    assert outcome(question, tie, "letter").letter_correct is True
    wrong = score.model_copy(update={"letter_logprobs": [-1.0, -1.0, -1.0]})
    assert outcome(question, wrong, "letter").letter_correct is False


def test_softmax_of_very_unlikely_options() -> None:
    assert softmax([-1000.0, -1000.0]) == [0.5, 0.5]


def test_missing_answers_are_counted() -> None:
    asked = questions(3)
    with pytest.raises(PipelineError, match="1 items without one"):
        require_same_items(asked, asked[:2], Path("responses.jsonl"))


def test_batches_respect_rows_and_tokens() -> None:
    lengths = [5, 30, 7, 30, 6, 1]
    for tokens, rows in ((60, 2), (1000, 1), (10, 64), (1000, 64)):
        batches = plan(lengths, 0, tokens, rows)
        assert sorted(item for batch in batches for item in batch) == list(range(6))
        for batch in batches:
            assert len(batch) <= rows
            assert len(batch) == 1 or len(batch) * max(lengths[item] for item in batch) <= tokens


def test_padding_is_on_the_right() -> None:
    values, mask = right_padded([[7, 8], [9]])
    assert values.tolist() == [[7, 8], [9, 0]]
    assert mask.tolist() == [[1, 1], [1, 0]]


def test_common_prefix() -> None:
    assert common_prefix([[1, 2, 3], [1, 2], [1, 2, 4]]) == 2
    assert common_prefix([[1], [2]]) == 0
    assert common_prefix([[1, 2]]) == 2


def test_auto_takes_what_starts_and_cuda_is_never_replaced() -> None:
    if cuda_problem() is None:
        assert choose_provider("auto") == choose_provider("cuda") == CUDA
        return
    assert choose_provider("auto") == choose_provider("cpu") == CPU
    with pytest.raises(PipelineError, match=r"run\.provider"):
        choose_provider("cuda")


def test_a_gpus_memory_is_asked_for_once(llama: tuple[Path, Path]) -> None:
    session = Plain(llama[1], CPU).session
    assert session.token_budget(10**12) == 10**12
    # A CUDA session's arena keeps what it has taken, so later the driver would say that next to nothing is free.
    session._free = 8_000_000
    of_token = 4 * sum(entry.shape[1] * entry.shape[3] for entry in session._past_inputs)
    assert session.token_budget(10**12) == session.token_budget(10**12) == 8_000_000 // (4 * of_token)


def test_cuda_leaves_a_quarter_beside_the_weights(llama: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    weights = external_bytes(llama[1])
    assert 0 < (llama[1] / "model.safetensors").stat().st_size - weights < 4096  # its header
    monkeypatch.setattr("safety_tax.engine.session.free_gpu_memory", lambda: weights + 4000)
    assert cuda_options(llama[1]) == {"use_tf32": "0", "gpu_mem_limit": str(weights + 3000)}
    # Weights that do not fit, or a torch that knows no GPU, set no limit: ONNX Runtime says what is wrong.
    for free in (weights - 1, None):
        monkeypatch.setattr("safety_tax.engine.session.free_gpu_memory", lambda free=free: free)
        assert cuda_options(llama[1]) == {"use_tf32": "0"}


def test_a_graph_that_does_not_load_is_a_sentence(llama: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(llama[1], folder)
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:1000])
    with pytest.raises(PipelineError, match=r"Expected ONNX Runtime to load .*broken on CPU.*, found"):
        Plain(folder, CPU)


def test_a_session_on_another_provider_is_refused(llama: tuple[Path, Path]) -> None:
    session = Plain(llama[1], CPU)
    session.session.provider = CUDA  # as if CUDA had been asked for and ONNX Runtime had fallen back
    with pytest.raises(PipelineError, match=f"found it on {CPU}"):
        session.require_provider()


def test_broken_weights_raise_and_do_not_score(llama: tuple[Path, Path], tmp_path: Path) -> None:
    for file in llama[1].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    change_numbers(tmp_path, lambda _, tensor: tensor * np.nan)
    session = Plain(tmp_path, CPU)
    with pytest.raises(PipelineError, match="finite logits"):
        answered(session, [[5, 6, 7]], frozenset([2]), Limits(4, 100, 1))
