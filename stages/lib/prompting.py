"""What a model is actually shown: MMLU's two formats, a problem's two, and the model's own chat template."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from stages.lib.errors import PipelineError
from stages.lib.rows import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LETTERS = "ABCDEFGHIJ"
WORKED_EXAMPLES = 5
"""Solved problems before each problem in the format `worked_examples`."""
NEXT_QUESTION = "Question:"
"""Where a model that goes on after worked examples begins a problem of its own."""
REASONING = "\n\nReason step by step. End with a line: The answer is <number>."
# A chat template is a program that came with a model. These are far beyond any that was published.
TEMPLATE_CHARACTERS = 100_000
TEMPLATE_SECONDS = 10.0
RENDERED_CHARACTERS = 100_000
"""What a template may add to a text."""


def letter_prompt(question: Prompt, shots: Sequence[Prompt] = ()) -> str:
    """MMLU as in Hendrycks et al. 2021 and lm-evaluation-harness's `mmlu`; a space and the letter follow.

    `shots` are solved questions of the same subject that come first.
    """
    header = f"The following are multiple choice questions (with answers) about {question.group}.\n\n"
    solved = [f"{_with_letters(shot)} {LETTERS[shot.gold or 0]}\n\n" for shot in shots]
    return header + "".join(solved) + _with_letters(question)


def _with_letters(question: Prompt) -> str:
    options = zip(LETTERS, question.choices or [], strict=False)
    return question.text.strip() + "".join(f"\n{letter}. {text}" for letter, text in options) + "\nAnswer:"


def continuation_prompt(question: Prompt) -> str:
    """The question alone; a space and an option's text follow."""
    return f"Question: {question.text.strip()}\nAnswer:"


def continuations(question: Prompt) -> list[str]:
    """What follows `continuation_prompt`, one string an option."""
    return [f" {choice.strip()}" for choice in question.choices or []]


def letters(question: Prompt) -> list[str]:
    """What follows `letter_prompt`, one string an option."""
    return [f" {letter}" for letter in LETTERS[: len(question.choices or [])]]


def reasoning_request(problem: Prompt) -> str:
    """A problem for a chat model: what the user says."""
    return problem.text.strip() + REASONING


def worked_prompt(problem: Prompt, examples: Sequence[Prompt]) -> str:
    """A problem after solved ones, as in lm-evaluation-harness's `gsm8k`; a space and the solution follow."""
    solved = [f"{continuation_prompt(example)} {(example.solution or '').strip()}\n\n" for example in examples]
    return "".join(solved) + continuation_prompt(problem)


def chat_token_ids(tokenizer: "PreTrainedTokenizerBase", text: str, model: str) -> list[int]:
    """Token ids of one user turn in the model's own template, up to where its answer begins.

    Raises PipelineError when the model has no chat template.
    """
    if not tokenizer.chat_template:
        raise PipelineError(
            f"Expected a chat template with the model {model!r}, found none; "
            "name one of data/chat_templates as `chat_template` of its catalog entry in params.yaml."
        )
    rendered = rendered_chat(tokenizer, [{"role": "user", "content": text}], model, add_generation_prompt=True)
    ids: list[int] = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    return ids


def rendered_chat(
    tokenizer: "PreTrainedTokenizerBase", turns: list[dict[str, str]], model: str, add_generation_prompt: bool
) -> str:
    """The turns in the tokenizer's chat template, rendered in Transformers' sandbox with limits on time and size.

    Raises PipelineError when the template has a fault, asks for what the sandbox forbids, or meets a limit.
    """
    template = str(tokenizer.chat_template)
    if len(template) > TEMPLATE_CHARACTERS:
        raise PipelineError(
            f"Expected the chat template of {model!r} to have at most {TEMPLATE_CHARACTERS:,} characters, found "
            f"{len(template):,}; name one of data/chat_templates as `chat_template` in params.yaml."
        )
    try:
        with _time_limit(TEMPLATE_SECONDS):
            rendered = str(
                tokenizer.apply_chat_template(turns, add_generation_prompt=add_generation_prompt, tokenize=False)
            )
    except (
        TemplateError,
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
        MemoryError,
        RecursionError,
        SyntaxError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PipelineError(
            f"Expected the chat template of {model!r} to render a conversation, found: {reason}; "
            "name one of data/chat_templates as `chat_template` in params.yaml."
        ) from None
    except TimeoutError:
        raise PipelineError(
            f"Expected the chat template of {model!r} to render within {TEMPLATE_SECONDS:g} seconds, found it still at "
            "work; name one of data/chat_templates as `chat_template` in params.yaml."
        ) from None
    added = len(rendered) - sum(len(turn["content"]) for turn in turns)
    if added > RENDERED_CHARACTERS:
        raise PipelineError(
            f"Expected the chat template of {model!r} to add at most {RENDERED_CHARACTERS:,} characters, found "
            f"{added:,}; name one of data/chat_templates as `chat_template` in params.yaml."
        )
    return rendered


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what runs longer; without effect on Windows and outside the main thread."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    # Again and again: Jinja swallows what is raised while it works out constants.
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.05)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
