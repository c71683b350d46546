"""What an item must be before a model is run on it. Faults are gathered, so that a person reads all of them at once."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from safety_tax.core.errors import PipelineError
from safety_tax.core.prompting import LETTERS
from safety_tax.core.rows import ChoiceQuestion, Instruction, Problem, Prompt
from safety_tax.engine.protocol import Question

# Of the items with a fault of one sort, the message names so many.
NAMED_ITEMS = 3
AnItem = TypeVar("AnItem", bound=Prompt)
MEND = "take it out of its dataset, or mend data/benchmarks by `dvc repro --force fetch_data`"


class Faults:
    """What is wrong with the items, by sort."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[str]] = {}
        self._whole: dict[str, None] = {}

    def add_sentence(self, sentence: str) -> None:
        """Note what is of no single item."""
        self._whole[sentence] = None

    def add(self, expected: str, found: str, step: str) -> None:
        """Note one; those that expect the same and have the same next step are told together."""
        self._found.setdefault((expected, step), []).append(found)

    def sentences(self) -> list[str]:
        """One for each sort, with the first few of its items."""
        told = list(self._whole)
        for (expected, step), found in self._found.items():
            named = list(dict.fromkeys(found))
            more = f" and {len(named) - NAMED_ITEMS:,} more" if len(named) > NAMED_ITEMS else ""
            told.append(f"Expected {expected}, found {', '.join(named[:NAMED_ITEMS])}{more}; {step}.")
        return told

    def require_none(self) -> None:
        """Raises PipelineError, with all of them, when there are any."""
        told = self.sentences()
        if len(told) == 1:
            raise PipelineError(told[0])
        if told:
            raise PipelineError(f"Nothing was asked, for {len(told)} reasons. {' | '.join(told)}")


class Reach(NamedTuple):
    """Tokens that a model reads: in all, and in the smallest sliding window of its layers, if one has any."""

    context: int
    window: int | None
    rows: int | None = None
    """Of the embeddings, where they are known: a token beyond them cannot be read."""


def reach_of(folder: Path) -> Reach:
    """What the model's config.json says."""
    from transformers import AutoConfig  # only here: it takes a second

    from safety_tax.model_files.attention import attention_of

    config = AutoConfig.from_pretrained(folder)
    attention = attention_of(config)
    return Reach(attention.context, attention.smallest, config.vocab_size)


def title(item: Prompt) -> str:
    """An item for a person."""
    return f"the {item.kind} item {item.id} about {item.group!r}"


def check_texts(items: Sequence[AnItem], faults: Faults) -> list[AnItem]:
    """An item asks something, in whole characters. Returns the items without a fault."""
    sound = []
    for item in items:
        found = None if item.text.strip() else "none"
        texts = [item.text, *(item.choices if isinstance(item, ChoiceQuestion) else [])]
        texts += [item.solution or ""] if isinstance(item, Problem) else []
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:
            found = "half a character (a lone surrogate)"
        if found is None:
            sound.append(item)
        else:
            faults.add("a text in every prompt", f"{found} in {title(item)}", MEND)
    return sound


def check_labels(items: Sequence[Prompt], faults: Faults) -> None:
    """A problem has a right answer, an instruction something to verify."""
    for item in items:
        missing = None
        if isinstance(item, Problem) and not item.answer.strip():
            missing = "answer"
        elif isinstance(item, Instruction) and not item.checks:
            missing = "checks"
        if missing:
            faults.add(
                "every problem to have its right answer, and every instruction its checks",
                f"no `{missing}` in {title(item)}",
                MEND,
            )


def check_options(questions: Sequence[ChoiceQuestion], faults: Faults) -> list[ChoiceQuestion]:
    """A question has options, a letter for each, and one of them is right. Returns the questions without a fault."""
    sound = []
    for question in questions:
        choices = question.choices
        found = None
        if not choices:
            found = "no options"
        elif not all(choice.strip() for choice in choices):
            found = "a blank option"
        elif len(choices) > len(LETTERS):
            found = f"{len(choices)} options"
        elif not 0 <= question.gold < len(choices):
            found = f"the right option {question.gold}"
        if found is None:
            sound.append(question)
            continue
        faults.add(
            f"every question to have 1 to {len(LETTERS)} options, and the place of the right one among them",
            f"{found} in {title(question)}",
            MEND,
        )
    return sound


def check_scored(questions: Sequence[Question], items: Sequence[Prompt], faults: Faults, form: str) -> None:
    """Every option adds a token to its question: the probability of none is 1, which would win."""
    for question, item in zip(questions, items, strict=True):
        if any(len(full) <= len(question.context) for full in question.full):
            faults.add(
                f"every option to add a token to its question in the format `{form}`",
                f"one without in {title(item)}",
                "the tokenizer joins it with the question's end: take the item out of its dataset",
            )


def check_context(
    ids: Sequence[Sequence[int]], items: Sequence[Prompt], more: int, reach: Reach, faults: Faults, form: str = ""
) -> None:
    """A prompt and `more` new tokens fit the positions that the model has; `form` says how it is asked."""
    for tokens, item in zip(ids, items, strict=True):
        if len(tokens) + more > reach.context:
            faults.add(
                f"at most {reach.context:,} tokens, the model's context",
                f"{len(tokens) + more:,} for {title(item)}{form}",
                "lower `shots` or `max_new_tokens`, or set infer.truncate to left, in params.yaml",
            )


def check_rows(
    ids: Sequence[Sequence[int]],
    items: Sequence[Prompt],
    decode: Callable[[list[int]], str],
    reach: Reach,
    faults: Faults,
) -> None:
    """Every token of a prompt has a row of the embeddings. Tokens that no item uses may have none."""
    for tokens, item in zip(ids, items, strict=True):
        if reach.rows is not None and (most := max(tokens, default=0)) >= reach.rows:
            faults.add(
                f"tokens below {reach.rows:,}, the rows of the model's embeddings",
                f"{decode([most])!r} with the id {most:,} in {title(item)}",
                "leave the item out, name another chat_template, or use a model whose embeddings were resized",
            )


def check_budget(
    lengths: Sequence[int], items: Sequence[Prompt], budget: int, setting: str, faults: Faults, form: str = ""
) -> None:
    """An item alone takes no more tokens than a batch may have."""
    for length, item in zip(lengths, items, strict=True):
        if length > budget:
            faults.add(
                f"run.{setting} to hold one item at least",
                f"{budget:,} tokens and {length:,} for {title(item)}{form}",
                f"raise run.{setting} in params.yaml",
            )


def check_window(
    ids: Sequence[Sequence[int]],
    items: Sequence[Prompt],
    more: int,
    setting: str,
    reach: Reach,
    faults: Faults,
    form: str = "",
) -> None:
    """A prompt and the `more` tokens that may follow in its batch fit the sliding window.

    The plain graph measures the window over the columns of a batch, padding included: a row whose past holds padding
    would see too few of its own tokens. Within the window every row sees all of them.
    """
    for tokens, item in zip(ids, items, strict=True):
        if reach.window is not None and len(tokens) + more > reach.window:
            faults.add(
                f"at most {reach.window:,} tokens, the model's sliding window",
                f"{len(tokens):,} for {title(item)}{form} and up to {more:,} after them in its batch",
                f"lower {setting} in params.yaml",
            )


def without_beginning(question: Question, limit: int, together: bool = False) -> Question:
    """The question's last tokens, so that each option fits `limit`, or all `together` after what they share.

    What goes is the same of all options. What is scored stays whole, with a token to score it after.
    """
    shared = question.shared()
    size = 1 + shared + sum(len(full) - 1 - shared for full in question.full) if together else 0
    over = min(max(size, *map(len, question.full)) - limit, shared - 1)
    if over <= 0:
        return question
    return Question(question.context[over:], [full[over:] for full in question.full])
