"""What a model is asked is made ready before its first answer, and what is wrong is told all at once."""

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import workplace
from test_inference import INFER, RUN, model_entry
from test_journal import STOPPED, run_here
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast
from workplace import JOURNAL, OUTPUT, ask_more, encoder_of, infer, output_of, prompt, record_of, write_params

from safety_tax.core.errors import PipelineError
from safety_tax.core.prompting import reasoning_request, worked_prompt
from safety_tax.core.rows import (
    GENERATED,
    PROMPT,
    ChoiceQuestion,
    Problem,
    Response,
    read_examples,
    read_items,
    read_rows,
    write_rows,
)
from safety_tax.dispatch import runners
from safety_tax.dispatch.journal import Journal
from safety_tax.engine.gqa.tree import Tree
from safety_tax.engine.item_checks import Faults, Reach
from safety_tax.engine.preparing import (
    Asking,
    Examples,
    Form,
    answered_together,
    examples_of,
    prepare,
    prepare_answers,
    prepare_questions,
)
from safety_tax.engine.protocol import Answers
from safety_tax.settings.stages import NewTokens
from safety_tax.tokens.ends import Stops, stops_of

LIMITS = {"harmful": 16, "jailbreak": 16, "benign": 16, "problem": 24, "instruction": 40}


def problem(number: int, text: str = "What is 2 + 2? ", **more: Any) -> Problem:
    found = prompt("problem", number, text, **more)
    assert isinstance(found, Problem)
    return found


def example(number: int, **more: Any) -> Problem:
    return problem(number, f"What is {number}?", group="b", solution=f"{number}.\n#### {number}", **more)


def asking_of(tokenizer: PreTrainedTokenizerFast, limits: dict[str, int] = LIMITS, **changed: Any) -> Asking:
    """A model that is not there; `changed` is of its catalogue entry."""
    entry = model_entry("letter").model_copy(update=changed)
    settings = INFER.model_copy(update={"max_new_tokens": NewTokens(**limits)})
    encoder = encoder_of(tokenizer)
    stops = stops_of(entry.stop, tokenizer, "tiny")
    ends = Stops(frozenset([2]) | stops.tokens, stops.texts)
    return Asking("tiny", entry, settings, RUN, encoder, Reach(2048, None), ends, Tree)


def test_a_problem_after_worked_examples_to_the_letter() -> None:
    shown = [example(1), example(2).model_copy(update={"text": "What is two? "})]
    assert worked_prompt(problem(0), shown) == (
        "Question: What is 1?\nAnswer: 1.\n#### 1\n\nQuestion: What is two?\nAnswer: 2.\n#### 2\n\n"
        "Question: What is 2 + 2?\nAnswer:"
    )


def test_a_problem_for_a_chat_model_asks_for_reasons_and_a_marked_answer(tokenizer: PreTrainedTokenizerFast) -> None:
    asked = "What is 2 + 2?\n\nReason step by step. End with a line: The answer is <number>."
    assert reasoning_request(problem(0)) == asked
    (part,) = prepare(asking_of(tokenizer, stop=["\nUser:"]), [problem(0)], {}, Examples({}, {}))[0]
    assert isinstance(part.part, Answers) and part.part.stop_text
    assert tokenizer.decode(part.part.items[0]) == f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
    assert (part.part.name, part.part.max_new_tokens, part.part.stop_text.strings) == ("problems", 24, ("\nUser:",))


def test_worked_examples_are_plain_text_and_the_next_question_ends_an_answer(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    asking = asking_of(tokenizer, problem_format="worked_examples", stop=["\nUser:"])
    examples = examples_of([example(n) for n in range(7)], asking.model)
    problems, instructions = prepare(
        asking,
        [
            problem(0),
            prompt("instruction", 0, " Go. "),
        ],
        {},
        examples,
    )[0]
    assert isinstance(problems.part, Answers) and isinstance(instructions.part, Answers)
    # Five of seven, as the tokenizer writes a plain text.
    assert problems.part.items == [tokenizer(worked_prompt(problem(0), [example(n) for n in range(5)]))["input_ids"]]
    assert problems.part.stop_text and problems.part.stop_text.strings == ("Question:",)
    written = tokenizer("4.\n#### 4\n\nQuestion: What is 5?", add_special_tokens=False)["input_ids"]
    ended = [problems.part.stop_text.ends(written[: place + 1]) for place in range(len(written))]
    text = tokenizer.decode(written[: ended.index(True) + 1])
    assert text.endswith("Question:") and problems.part.stop_text.before(text) == "4.\n#### 4\n\n"
    # An instruction is asked as it is, in the chat template.
    assert tokenizer.decode(instructions.part.items[0]).startswith("<|im_start|>user\n Go. <|im_end|>")
    assert instructions.part.stop_text and instructions.part.stop_text.strings == ("\nUser:",)


def test_prompts_with_one_limit_run_together_problems_and_instructions_on_their_own(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    prompts = [prompt(kind, n, "Why?") for kind in GENERATED for n in range(2)]

    def parts(**limits: int) -> dict[str, list[str]]:
        together = answered_together(asking_of(tokenizer, LIMITS | limits), prompts)
        return {name: [item.id for item in of] for name, of in together}

    answers = ["harmful0", "harmful1", "jailbreak0", "jailbreak1", "benign0", "benign1"]
    alone = {"problems": ["problem0", "problem1"], "instructions": ["instruction0", "instruction1"]}
    assert parts() == parts(problem=16, instruction=16) == {"answers": answers} | alone
    assert parts(jailbreak=9) == {
        "answers up to 16 tokens": [*answers[:2], *answers[4:]],
        "answers up to 9 tokens": answers[2:4],
        **alone,
    }


def test_faults_of_one_sort_are_counted_and_the_first_few_named(tokenizer: PreTrainedTokenizerFast) -> None:
    faults = Faults()
    asking = asking_of(tokenizer, problem_format="worked_examples")
    prepare_answers(asking, "problems", [problem(n, " ") for n in range(5)], Examples({}, {}), faults)
    (said,) = faults.sentences()
    assert "found none in the problem item problem0 about 'g', none in the problem item problem1" in said
    assert "problem2 about 'g' and 2 more; take it out" in said and "problem3" not in said
    with pytest.raises(PipelineError, match=r"^Expected a text in every prompt, found none in"):
        faults.require_none()


def test_half_a_character_is_a_sentence(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(PipelineError, match=r"half a character .* in the harmful item harmful0"):
        prepare(asking_of(tokenizer), [prompt("harmful", 0, "a \ud800")], {}, Examples({}, {}))


def test_an_option_that_adds_no_token_is_named_with_its_question(tokenizer: PreTrainedTokenizerFast) -> None:
    """Some tokenizers drop characters: the probability of no token is 1, so that such an option would always win."""
    dropping = copy.deepcopy(tokenizer)
    dropping.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace("~", ""), normalizers.Strip(left=False)]
    )
    question = prompt("choice", 0, "Which?", choices=["yes", "~~", "no"])
    for form, wrong in (("continuation", True), ("letter", False)):
        faults = Faults()
        prepare_questions(asking_of(dropping), cast(Form, form), [question], Examples({}, {}), faults)
        said = [sentence for sentence in faults.sentences() if "add a token" in sentence]
        assert len(said) == wrong and all("one without in the choice item choice0 about" in line for line in said)


def test_a_repeated_example_is_read(tmp_path: Path) -> None:
    path = tmp_path / "problem.jsonl"
    write_rows(path, [example(1), example(1)])
    assert read_examples(path) == [example(1), example(1)]
    with pytest.raises(PipelineError, match=r"each id once .* in line 3"):
        read_items(tmp_path, "problem")


@pytest.fixture(scope="module")
def built(
    tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], list[dict[str, bytes]]]:
    """A folder, its params, and what a run writes without problems and instructions, and with them."""
    folder = tmp_path_factory.mktemp("workplace")
    params = workplace.build(folder, tiny_models["tiny_llama"])
    outputs = []
    with pytest.MonkeyPatch.context() as patch:
        run_here(folder, patch)
        outputs.append(output_of(folder))
        params["infer"]["max_new_tokens"] = LIMITS
        params["catalog"]["tiny_llama"] |= {"problem_format": "worked_examples", "stop": ["<|im_start|>"]}
        write_params(folder, params)
        ask_more(folder, problems=6, instructions=7)
        run_here(folder, patch)
        outputs.append(output_of(folder))
    return folder, params, outputs


@pytest.fixture
def place(built: tuple[Path, dict[str, Any], list[dict[str, bytes]]]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folder with nothing run in it."""
    folder, params, _ = built
    for name in ("runs", "data/responses"):
        shutil.rmtree(folder / name, ignore_errors=True)
    before = {path: path.read_bytes() for path in (folder / "data/benchmarks").iterdir()}
    yield folder, copy.deepcopy(params)
    for path, content in before.items():
        path.write_bytes(content)
    write_params(folder, params)


def test_problems_and_instructions_follow_the_answers_each_to_its_limit(
    built: tuple[Path, dict[str, Any], list[dict[str, bytes]]],
) -> None:
    without, given = (output["responses.jsonl"].splitlines()[1:] for output in built[2])
    assert given[: len(without)] == without and len(given) == len(without) + 6 + 7
    answers = [Response.model_validate(json.loads(line)) for line in given]
    kinds = [answer.id.rstrip("0123456789") for answer in answers]
    assert kinds == sorted(kinds, key=list(LIMITS).index)
    for kind, answer in zip(kinds, answers, strict=True):
        assert answer.tokens <= LIMITS[kind]
        assert (answer.finish_reason == "length") == (answer.tokens == LIMITS[kind])
    assert {"problem", "instruction"} <= {
        kind for kind, answer in zip(kinds, answers, strict=True) if answer.tokens > 16
    }
    assert built[2][0]["choices.jsonl"] == built[2][1]["choices.jsonl"]


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.slow
def test_a_run_stopped_among_the_problems_goes_on_to_the_same_bytes(
    place: tuple[Path, dict[str, Any]], built: tuple[Path, dict[str, Any], list[dict[str, bytes]]], processes: int
) -> None:
    folder, params = place
    infer(folder, STOPPED.format(at=26 + 6 + 3, share=1.0, signal="SIGKILL"), status=-9)
    write_params(folder, params, processes=processes)
    infer(folder)
    assert record_of(folder)["resumed_items"] == 26 + 6 + 3
    assert output_of(folder) == built[2][1]


def test_all_that_is_wrong_is_told_before_anything_runs(
    place: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, params = place
    benchmarks = folder / "data/benchmarks"

    def change(kind: str, **fields: Any) -> None:
        path = benchmarks / f"{kind}.jsonl"
        first, *others = read_rows(path, PROMPT)
        write_rows(path, [first.model_copy(update=fields), *others])

    change("harmful", text="")
    change("benign", text="word " * 2100)
    change("problem", answer=" ")
    change("instruction", checks=[])
    questions = read_rows(benchmarks / "choice.jsonl", ChoiceQuestion)
    faulty: list[dict[str, Any]] = [
        {"gold": 4},
        {"choices": []},
        {"choices": ["x"] * 11},
        {"text": "word " * 2100},
    ]
    changed = [question.model_copy(update=fields) for question, fields in zip(questions, faulty, strict=False)]
    write_rows(benchmarks / "choice.jsonl", [*changed, *questions[len(changed) :]])
    write_rows(benchmarks / "shots.jsonl", read_examples(benchmarks / "shots.jsonl")[:-1])
    params["catalog"]["tiny_llama"]["shots"] = 2
    write_params(folder, params, generation_tokens=90)
    notes: list[Any] = []
    monkeypatch.setattr(Journal, "note", lambda *line: notes.append(line))
    monkeypatch.setattr(runners, "open_engine", lambda *given: notes.append(given))
    with pytest.raises(PipelineError) as raised:
        run_here(folder, monkeypatch)
    said = str(raised.value)
    assert said.startswith(
        "Nothing was asked, for 7 reasons. Expected a text in every prompt, found none in the harmful"
    )
    for words in (
        "for the benign item benign16 about 'g'",
        "no `answer` in the problem item problem0",
        "no `checks` in the instruction item instruction0",
        "the right option 4 in the choice item choice100 about 'g', no options in the choice item choice101",
        "11 options in the choice item choice102",
        "for the choice item choice103 about 'g' in the format `letter`",
        "for the choice item choice103 about 'g' in the format `continuation`",
        "Expected 2 dev questions about every subject for the shots of tiny_llama, found 1 about 'g'",
        "Expected 5 worked examples with their solutions for the problems of tiny_llama, found 4 of the dataset 'b'",
        "Expected run.generation_tokens to hold one item at least, found 90 tokens and",
    ):
        assert words in said, said
    assert "\n" not in said and notes == []
    assert not (folder / JOURNAL).exists() and not (folder / OUTPUT).exists()
