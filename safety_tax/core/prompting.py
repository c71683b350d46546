"""What a model is shown: MMLU's two formats, and a problem's two."""

from collections.abc import Sequence

from safety_tax.core.rows import ChoiceQuestion, Problem, Prompt

LETTERS = "ABCDEFGHIJ"
WORKED_EXAMPLES = 5
"""Solved problems before each problem in the format `worked_examples`."""
NEXT_QUESTION = "Question:"
"""Where a model that goes on after worked examples begins a problem of its own."""
REASONING = "\n\nReason step by step. End with a line: The answer is <number>."


def letter_prompt(question: ChoiceQuestion, shots: Sequence[ChoiceQuestion] = ()) -> str:
    """MMLU as in Hendrycks et al. 2021 and lm-evaluation-harness's `mmlu`; a space and the letter follow.

    `shots` are solved questions of the same subject that come first.
    """
    header = f"The following are multiple choice questions (with answers) about {question.group}.\n\n"
    solved = [f"{_with_letters(shot)} {LETTERS[shot.gold]}\n\n" for shot in shots]
    return header + "".join(solved) + _with_letters(question)


def _with_letters(question: ChoiceQuestion) -> str:
    options = zip(LETTERS, question.choices, strict=False)
    return question.text.strip() + "".join(f"\n{letter}. {text}" for letter, text in options) + "\nAnswer:"


def continuation_prompt(question: Prompt) -> str:
    """The question alone; a space and an option's text follow."""
    return f"Question: {question.text.strip()}\nAnswer:"


def continuations(question: ChoiceQuestion) -> list[str]:
    """What follows `continuation_prompt`, one string an option."""
    return [f" {choice.strip()}" for choice in question.choices]


def letters(question: ChoiceQuestion) -> list[str]:
    """What follows `letter_prompt`, one string an option."""
    return [f" {letter}" for letter in LETTERS[: len(question.choices)]]


def reasoning_request(problem: Problem) -> str:
    """A problem for a chat model: what the user says."""
    return problem.text.strip() + REASONING


def worked_prompt(problem: Problem, examples: Sequence[Problem]) -> str:
    """A problem after solved ones, as in lm-evaluation-harness's `gsm8k`; a space and the solution follow."""
    solved = [f"{continuation_prompt(example)} {(example.solution or '').strip()}\n\n" for example in examples]
    return "".join(solved) + continuation_prompt(problem)
