"""What an item must be before a model is run on it."""

from collections.abc import Sequence
from pathlib import Path

from stages.lib.errors import PipelineError
from stages.lib.inference.choice import Question
from stages.lib.rows import Prompt


def title(item: Prompt) -> str:
    """An item for a person."""
    return f"the {item.kind} item {item.id} about {item.group!r}"


def require_text(items: Sequence[Prompt]) -> None:
    """Raises PipelineError when an item asks nothing."""
    for item in items:
        if not item.text.strip():
            raise PipelineError(
                f"Expected a text in every prompt, found none in {title(item)}; "
                f"take it out of its dataset, or mend data/benchmarks by `dvc repro --force fetch_data`."
            )


def context_of(folder: Path) -> int:
    """The positions that a model has, in tokens."""
    from transformers import AutoConfig  # only here: it takes a second

    limit: int = AutoConfig.from_pretrained(folder).max_position_embeddings
    return limit


def require_fits(ids: Sequence[Sequence[int]], items: Sequence[Prompt], more: int, folder: Path) -> None:
    """Raises PipelineError when a prompt and `more` new tokens exceed the positions that the model has."""
    limit = context_of(folder)
    for tokens, item in zip(ids, items, strict=True):
        if len(tokens) + more > limit:
            raise PipelineError(
                f"Expected at most {limit:,} tokens, the model's context, found {len(tokens) + more:,} for the "
                f"{item.kind} item {item.id} about {item.group!r}; lower `shots` or `max_new_tokens`, or set "
                "infer.truncate to left, in params.yaml."
            )


def require_in_budget(lengths: Sequence[int], items: Sequence[Prompt], budget: int, setting: str) -> None:
    """Raises PipelineError when an item alone takes more tokens than a batch may have."""
    for length, item in zip(lengths, items, strict=True):
        if length > budget:
            raise PipelineError(
                f"Expected infer.{setting} to hold one item at least, found {budget:,} tokens and {length:,} for "
                f"{title(item)}; raise infer.{setting} in params.yaml."
            )


def require_within_window(
    ids: Sequence[Sequence[int]], items: Sequence[Prompt], more: int, setting: str, folder: Path
) -> None:
    """Raises PipelineError when a prompt and the `more` tokens that may follow in its batch exceed a sliding window.

    The plain graph measures the window over the columns of a batch, padding included: a row whose past holds padding
    would see too few of its own tokens. Within the window every row sees all of them.
    """
    from transformers import AutoConfig

    window: int | None = getattr(AutoConfig.from_pretrained(folder), "sliding_window", None)
    for tokens, item in zip(ids, items, strict=True):
        if window is not None and len(tokens) + more > window:
            raise PipelineError(
                f"Expected at most {window:,} tokens, the model's sliding window, found {len(tokens):,} for the "
                f"{item.kind} item {item.id} about {item.group!r} and up to {more:,} after them in its batch; lower "
                f"{setting} in params.yaml."
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
