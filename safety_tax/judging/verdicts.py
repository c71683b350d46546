"""A variant's responses and scores -> a verdict an item."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import (
    GENERATED,
    ChatPrompt,
    ChoiceQuestion,
    ChoiceScore,
    ChoiceVerdict,
    Instruction,
    InstructionVerdict,
    LabelVerdict,
    Problem,
    ProblemVerdict,
    Prompt,
    Response,
    Row,
    Verdict,
    read_items,
    read_questions,
    read_rows,
)
from safety_tax.core.workspace import BENCHMARKS
from safety_tax.judging.exchange import Exchange
from safety_tax.judging.final_answer import check_answer, marked_answers
from safety_tax.judging.instruction_checks import check_instructions
from safety_tax.judging.judge import Judge
from safety_tax.settings.catalog import Model


def softmax(values: Sequence[float]) -> list[float]:
    """Shares that add up to 1."""
    highest = max(values)
    weights = [math.exp(value - highest) for value in values]
    return [weight / sum(weights) for weight in weights]


def chosen(values: Sequence[float]) -> set[int]:
    """The places of the highest value."""
    highest = max(values)
    return {place for place, value in enumerate(values) if value == highest}


def outcome(question: ChoiceQuestion, score: ChoiceScore, utility_format: str) -> ChoiceVerdict:
    """What the scores of one question say; `gold_probability` is in the model's utility format.

    In both formats the options' scores (the letter's log-probability, or the text's per byte) are what is
    compared, and what the softmax is taken of. A tie is wrong: the model did not choose. A question that repeats the
    right option has several right ones: what counts is the text of the chosen one.
    """
    gold = question.gold
    right = {place for place, text in enumerate(question.choices) if text.strip() == question.choices[gold].strip()}
    per_byte = None
    if score.continuation_logprobs is not None:
        per_byte = [p / n for p, n in zip(score.continuation_logprobs, score.continuation_bytes, strict=True)]
    scores = {"letter": score.letter_logprobs, "continuation": per_byte}
    correct = {form: None if values is None else chosen(values) <= right for form, values in scores.items()}
    own = scores[utility_format]
    assert own is not None
    return ChoiceVerdict(
        **of_item(question),
        letter_correct=correct["letter"],
        continuation_correct=correct["continuation"],
        gold_probability=softmax(own)[gold],
        bits_per_byte=None if per_byte is None else -per_byte[gold] / math.log(2),
        letter_mass=score.letter_mass,
        options=len(own),
    )


def of_item(item: Prompt) -> dict[str, Any]:
    """What a verdict says of its item."""
    return {"id": item.id, "benchmark": item.benchmark, "kind": item.kind, "group": item.group}


def of_answer(prompt: Prompt, response: Response) -> dict[str, Any]:
    """The same, and what a verdict keeps of the answer."""
    return of_item(prompt) | {
        "truncated": response.finish_reason == "length",
        "tokens": response.tokens,
        "told_date": response.told_date,
        "response_sha": response.sha,
    }


def judge_responses(prompts: list[ChatPrompt], responses: list[Response], judge: Judge) -> list[LabelVerdict]:
    """A label for every response."""
    exchanges = [
        Exchange(prompt.id, prompt.kind, prompt.text, response.text, response.finish_reason)
        for prompt, response in zip(prompts, responses, strict=True)
    ]
    return [
        LabelVerdict(
            **of_answer(prompt, response),
            label=judgement.label,
            rule=judgement.rule,
            looped=judgement.looped,
            harmful=judgement.harmful,
        )
        for prompt, response, judgement in zip(prompts, responses, judge(exchanges), strict=True)
    ]


def require_same_items(prompts: Sequence[Row], found: Sequence[Row], where: Path) -> None:
    """Raises PipelineError when `found` does not answer exactly `prompts`, in their order."""
    if [row.id for row in prompts] != [row.id for row in found]:
        missing = {row.id for row in prompts} - {row.id for row in found}
        raise PipelineError(
            f"Expected an answer to each of the {len(prompts):,} benchmark items in {where}, found {len(found):,} rows "
            f"and {len(missing):,} items without one; run `dvc repro`."
        )


def solved(problem: Problem, response: Response) -> ProblemVerdict:
    """Whether a problem's final answer is right."""
    found = check_answer(response.text, problem.answer)
    return ProblemVerdict(
        **of_answer(problem, response), answer_correct=found.correct, marked_correct=found.marked_correct
    )


def obeyed(instruction: Instruction, response: Response) -> InstructionVerdict:
    """Whether all instructions of a prompt were followed."""
    found = check_instructions(instruction.checks, instruction.text, response.text)
    return InstructionVerdict(
        **of_answer(instruction, response), followed=found.strictly, followed_loosely=found.loosely
    )


def require_answers(responses: Sequence[Response], where: Path) -> None:
    """The gate before problems are checked: the base ended some answer, or marked one, before the token limit.

    Of the base alone: a merged model that never ends is a finding, and the limit is the same for all variants.
    """
    cut = [response for response in responses if response.finish_reason == "length"]
    if cut and len(cut) == len(responses) and not any(marked_answers(response.text) for response in cut):
        raise PipelineError(
            f"Expected final answers in {where}, found all {len(cut):,} answers to problems cut off at the token limit "
            f"before one came; raise infer.max_new_tokens.problem in params.yaml, or catalog.{where.parts[-3]}'s own."
        )


def judge_variant(folder: Path, model: Model, judge: Judge) -> list[Verdict]:
    """Verdicts on all of a variant's responses and scores. Raises PipelineError when items differ."""
    prompts = [prompt for kind in GENERATED for prompt in read_items(BENCHMARKS, kind)]
    responses = read_rows(folder / "responses.jsonl", Response)
    require_same_items(prompts, responses, folder / "responses.jsonl")
    answered = list(zip(prompts, responses, strict=True))
    labelled = [(prompt, response) for prompt, response in answered if isinstance(prompt, ChatPrompt)]
    problems = [(prompt, response) for prompt, response in answered if isinstance(prompt, Problem)]
    if folder.name == "base":
        require_answers([response for _, response in problems], folder / "responses.jsonl")
    checked = [solved(*pair) for pair in problems]
    followed = [obeyed(prompt, response) for prompt, response in answered if isinstance(prompt, Instruction)]
    questions = read_questions(BENCHMARKS)
    scores = read_rows(folder / "choices.jsonl", ChoiceScore, may_be_empty=not questions)
    require_same_items(questions, scores, folder / "choices.jsonl")
    outcomes = [outcome(q, score, model.utility_format) for q, score in zip(questions, scores, strict=True)]
    labels = judge_responses([prompt for prompt, _ in labelled], [response for _, response in labelled], judge)
    return [*labels, *checked, *followed, *outcomes]
