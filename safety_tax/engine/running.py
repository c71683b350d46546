"""A part is run: equal items once, its batches one after another, with less at once where memory runs out."""

import hashlib
from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from safety_tax.core.errors import PipelineError
from safety_tax.engine.batches import shared_length
from safety_tax.engine.protocol import (
    Answers,
    Budget,
    Engine,
    Generated,
    Hooks,
    Part,
    Question,
    Result,
    Scores,
)
from safety_tax.engine.provider_errors import PROVIDER_ERRORS, first_line, out_of_memory

# Of the items of a batch that failed, a sentence names so many.
NAMED_ITEMS = 5


def result_of(part: Part, value: Any) -> Result:
    """A result from JSON, into which it went as a list."""
    return Generated(*value) if isinstance(part, Answers) else Scores(*value)


def first_alike(part: Part) -> list[int]:
    """For each item, the first one that asks the same; equal prompts get equal results, so that one is enough."""
    seen: dict[bytes, int] = {}
    sequences = ([item.context, *item.full] if isinstance(item, Question) else [item] for item in part.items)
    return [seen.setdefault(_digest(of_item), number) for number, of_item in enumerate(sequences)]


def _digest(sequences: Sequence[Sequence[int]]) -> bytes:
    digest = hashlib.sha256()
    for tokens in sequences:
        digest.update(array("q", [len(tokens), *tokens]).tobytes())
    return digest.digest()


def costs(part: Part, groups: Sequence[Sequence[int]]) -> list[int]:
    """Tokens that each group costs: what a question shares with the one before is run once."""
    found, before = [], list[int]()
    for group in groups:
        total = 0
        for item in group:
            if isinstance(part, Answers):
                total += len(part.items[item]) + part.max_new_tokens
                continue
            question = part.items[item]
            total += len(question.context) - shared_length(before, question.context)
            total += sum(len(full) - question.shared() for full in question.full)
            before = question.context
        found.append(total)
    return found


def run_items(engine: Engine, part: Part, wanted: Collection[int], budget: Budget, hooks: Hooks) -> None:
    """Run the wanted items of a part. Where memory runs out, go on with half as much at once.

    Raises PipelineError when ONNX Runtime fails, and names the items that were running; those reported are finished.
    """
    waiting, running = set(wanted), dict[int, None]()

    def started(item: int) -> None:
        running[item] = None

    telling = replace(hooks, started=started)
    while waiting:
        running.clear()
        try:
            for item, result in _results(engine, part, waiting.copy(), budget, telling):
                running.pop(item, None)
                if item in waiting:
                    waiting.discard(item)
                    hooks.finished(item, result)
        except PROVIDER_ERRORS as error:
            if not out_of_memory(error):
                raise PipelineError(
                    f"Expected ONNX Runtime to run the part `{part.name}`, found on {_titles(part, running)}: "
                    f"{first_line(error)}; what was finished is kept, and `dvc repro` goes on from there."
                ) from error
            if budget.exhausted():
                raise PipelineError(
                    f"Expected {_titles(part, running)} to fit in memory alone, found: {first_line(error)}; what was "
                    "finished is kept: use a device with more memory, or shorter prompts."
                ) from error
            budget = budget.halved()
            hooks.say(
                f"  memory ran out on {len(running)} item(s) of `{part.name}` ({first_line(error)}); "
                f"going on with 1/{budget.parts} of a batch at once"
            )


def _results(
    engine: Engine, part: Part, wanted: Collection[int], budget: Budget, hooks: Hooks
) -> Iterator[tuple[int, Result]]:
    if isinstance(part, Answers):
        return engine.generate(part, wanted, budget, hooks)
    return engine.score(part, wanted, budget, hooks)


def _titles(part: Part, running: dict[int, None]) -> str:
    """The items of a batch, for a person: the last to start first, since those before it were running well."""
    titles = [part.titles[item] for item in reversed(running)]
    more = f" and {len(titles) - NAMED_ITEMS} more" if len(titles) > NAMED_ITEMS else ""
    return (", ".join(titles[:NAMED_ITEMS]) or "its first batch") + more
