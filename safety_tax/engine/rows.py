"""What a variant is asked, from the rows of its items, and the rows of its answers and scores."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from safety_tax.core.rows import (
    GENERATED,
    ChoiceQuestion,
    ChoiceScore,
    Prompt,
    Response,
    read_examples,
    read_items,
    read_questions,
)
from safety_tax.core.workspace import BENCHMARKS
from safety_tax.engine.preparing import Examples, Form, Prepared, examples_of
from safety_tax.engine.protocol import Answers, Generated, Result, Scores
from safety_tax.settings.catalog import Model
from safety_tax.tokens.thoughts import opened_by

PROMPT_END = 32
"""Tokens of a prompt's end, in which the mark of a thought stands."""


class Asked(NamedTuple):
    """What a variant is asked: prompts to answer, questions, those of each format, and the examples before them."""

    prompts: list[Prompt]
    questions: list[ChoiceQuestion]
    forms: dict[Form, list[ChoiceQuestion]]
    examples: Examples


def read_asked(model: Model, other_format: int | Literal["all"]) -> Asked:
    """What the model is asked. Raises PipelineError when a file is missing or damaged."""
    prompts: list[Prompt] = [prompt for kind in GENERATED for prompt in read_items(BENCHMARKS, kind)]
    questions = read_questions(BENCHMARKS)
    shown = model.shots > 0 or model.problem_format == "worked_examples"
    examples = examples_of(read_examples(BENCHMARKS / "shots.jsonl") if shown else [], model)
    forms = asked_in(model.utility_format, questions, other_format)
    return Asked(prompts, questions, forms, examples)


def asked_in(
    own: Form, questions: list[ChoiceQuestion], other_format: int | Literal["all"]
) -> dict[Form, list[ChoiceQuestion]]:
    """The questions of each format: all in the model's own, the first `other_format` in the other."""
    other: Form = "letter" if own == "continuation" else "continuation"
    return {own: questions, other: questions if other_format == "all" else questions[:other_format]}


def responses_of(prepared: Prepared, done: Sequence[Result], decode: Callable[[list[int]], str]) -> list[Response]:
    """The answers as rows, in the order of the prepared items.

    Where the prompt has opened a thought, the answer's text begins with its mark: so it is told from an answer even
    where it never ends.
    """
    part = prepared.part
    assert isinstance(part, Answers)
    responses = []
    for item, asked, generated in zip(prepared.items, part.items, done, strict=True):
        assert isinstance(generated, Generated)
        text = opened_by(decode(asked[-PROMPT_END:])) + decode(generated.tokens)
        responses.append(
            Response(
                id=item.id,
                text=(part.stop_text.before(text) if part.stop_text else text).strip(),
                finish_reason=generated.finish_reason,
                tokens=len(generated.tokens),
            )
        )
    return responses


def choice_scores(questions: list[ChoiceQuestion], scores: Mapping[Form, list[Scores]]) -> list[ChoiceScore]:
    """A row for every question, from the scores of the first so many in each format."""
    rows = []
    for place, question in enumerate(questions):
        letter, continuation = (
            of[place] if place < len(of := scores.get(form, [])) else None for form in ("letter", "continuation")
        )
        rows.append(
            ChoiceScore(
                id=question.id,
                letter_logprobs=letter.logprobs if letter else None,
                letter_mass=letter.first_token_mass if letter else None,
                continuation_logprobs=continuation.logprobs if continuation else None,
                continuation_bytes=[len(choice.strip().encode()) for choice in question.choices],
            )
        )
    return rows
