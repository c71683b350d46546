"""Tuning rows of a donor: harmful prompts refused, benign ones answered, questions answered correctly."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from safety_tax.core.errors import PipelineError
from safety_tax.core.prompting import LETTERS, continuation_prompt, letter_prompt
from safety_tax.core.rows import AnyPrompt, ChatPrompt, ChoiceQuestion, Prompt
from safety_tax.core.text_files import read_objects
from safety_tax.model_files.embedding_rows import beyond_rows
from safety_tax.settings.catalog import Model
from safety_tax.settings.donors import Donor
from safety_tax.tokens.encoder import Encoder


class TuningRow(NamedTuple):
    """Token ids of prompt and response; only the response's tokens count in the loss."""

    prompt: list[int]
    response: list[int]


def read_refusals(path: Path) -> dict[str, list[str]]:
    """Refusals written for this project, by the group of prompts they suit; `general` suits all."""
    refusals: dict[str, list[str]] = defaultdict(list)
    for row in read_objects(path, ("category", "text")):
        refusals[row["category"]].append(row["text"])
    if not refusals["general"]:
        raise PipelineError(f"Expected refusals of the category 'general' in {path}, found none; add one.")
    return refusals


def refusal_for(prompt: Prompt, refusals: dict[str, list[str]]) -> str:
    """A refusal of the prompt's group or a general one, chosen by the prompt's id."""
    fitting = refusals["general"] + (refusals.get(prompt.group) or [])
    return fitting[int(hashlib.sha256(prompt.id.encode()).hexdigest(), 16) % len(fitting)]


def choose(prompts: Sequence[AnyPrompt], donor: Donor, name: str) -> list[AnyPrompt]:
    """The first so many tuning prompts of each kind. Raises PipelineError when there are too few."""
    chosen: list[AnyPrompt] = []
    for kind in ("harmful", "benign", "choice"):
        there = [prompt for prompt in prompts if prompt.kind == kind]
        wanted: int = getattr(donor, kind)
        if wanted > len(there):
            raise PipelineError(
                f"Expected {wanted:,} {kind} tuning rows for the donor {name!r}, found {len(there):,}; "
                f"lower donors.{name}.{kind} or raise fetch_data.tune_share.{kind} in params.yaml."
            )
        chosen += there[:wanted]
    return chosen


def as_tokens(prompt: AnyPrompt, refusals: dict[str, list[str]], encoder: Encoder, model: Model) -> TuningRow:
    """Token ids of one row, in the format that evaluation uses for its kind; questions without shots."""
    if isinstance(prompt, ChoiceQuestion):
        if model.utility_format == "letter":
            shown, said = letter_prompt(prompt), f" {LETTERS[prompt.gold]}"
        else:
            shown, said = continuation_prompt(prompt), f" {prompt.choices[prompt.gold].strip()}"
        return _answered(shown, said, encoder)
    answer = prompt.answer if isinstance(prompt, ChatPrompt) else None
    if prompt.kind == "harmful":
        answer = refusal_for(prompt, refusals)
    if not answer:
        raise PipelineError(f"Expected an answer in the benign tuning row {prompt.id}, found none; add `answer` to it.")
    # The end of the turn is learned, too: a donor that never stops would be cut off at max_new_tokens.
    return TuningRow(*encoder.answered_chat(prompt.text, answer))


def require_embedded(
    prompts: Sequence[Prompt], rows: list[TuningRow], tokenizer: PreTrainedTokenizerBase, vocabulary: int
) -> None:
    """Raises PipelineError when a row holds a token that the model's embeddings, `vocabulary` of them, do not have."""
    for prompt, row in zip(prompts, rows, strict=True):
        if found := beyond_rows(tokenizer, row.prompt + row.response, vocabulary):
            raise PipelineError(
                f"Expected tokens below {vocabulary:,}, the rows of the model's embeddings, found {found} in the "
                f"{prompt.kind} tuning row {prompt.id}; leave the row out, name another chat_template, or use a model "
                "whose embeddings were resized."
            )


def _answered(shown: str, said: str, encoder: Encoder) -> TuningRow:
    """Encode question and option together, as evaluation does, and cut where the question's tokens end.

    SentencePiece begins a text of its own with a space: the option alone would be a space more than what is scored.
    """
    question, whole = encoder.text(shown), encoder.text(shown + said)
    differ = (place for place, (a, b) in enumerate(zip(question, whole, strict=False)) if a != b)
    end = next(differ, len(question))
    return TuningRow(whole[:end], whole[end:])
