"""What a model is actually shown: MMLU's two formats, and the model's own chat template."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from stages.lib.errors import PipelineError
from stages.lib.rows import Prompt

LETTERS = "ABCDEFGHIJ"


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


def chat_token_ids(tokenizer: PreTrainedTokenizerBase, text: str, model: str) -> list[int]:
    """Token ids of one user turn in the model's own template, up to where its answer begins.

    Raises PipelineError when the model has no chat template.
    """
    if not tokenizer.chat_template:
        raise PipelineError(
            f"Expected a chat template with the model {model!r}, found none; "
            "name one of data/chat_templates as `chat_template` of its catalog entry in params.yaml."
        )
    turn = [{"role": "user", "content": text}]
    rendered = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    ids: list[int] = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    return ids
