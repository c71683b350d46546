"""What a run does: its parts, each of them prompts to answer or questions to score in one format."""

import hashlib
from array import array
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from safety_tax.core.errors import PipelineError
from safety_tax.engine.choice import Question, Scores, question_plan, score
from safety_tax.engine.generation import GREEDY, Chooser, Generated, Limits, Sampling, StopText, answer_plan, generate
from safety_tax.engine.grouped_choice import question_packs, score_grouped
from safety_tax.engine.grouped_generation import generate_grouped, grouped_answer_plan
from safety_tax.engine.open_session import Session
from safety_tax.engine.prefix_tree import shared_length
from safety_tax.engine.provider_errors import PROVIDER_ERRORS, first_line, out_of_memory
from safety_tax.engine.session import ModelSession
from safety_tax.settings.stages import Run

Result = Generated | Scores
# Of the items of a batch that failed, a sentence names so many.
NAMED_ITEMS = 5


@dataclass(frozen=True)
class Answers:
    """Token ids of prompts, what ends an answer (a token, a length, a string), and what a person calls each prompt."""

    name: str
    items: list[list[int]]
    stop: frozenset[int]
    titles: list[str]
    max_new_tokens: int
    stop_text: StopText | None = None
    sampling: Sampling = GREEDY


@dataclass(frozen=True)
class Questions:
    """Questions in one format, and what a person calls each of them."""

    name: str
    items: list[Question]
    titles: list[str]


Part = Answers | Questions


class Report(NamedTuple):
    """Whom a run tells: of progress (new tokens, or questions), of each item's result, and of what a person reads."""

    advance: Callable[[int], None]
    finished: Callable[[int, Result], None]
    say: Callable[[str], None]


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


def limits(part: Answers, settings: Run) -> Limits:
    """What bounds the generation of a part."""
    return Limits(part.max_new_tokens, settings.generation_tokens, settings.rows_per_batch)


def plan(part: Part, grouped: bool, settings: Run) -> list[list[int]]:
    """Which items run together: it depends on all items and the settings, not on what is finished or on who runs."""
    if isinstance(part, Answers):
        if grouped:
            return grouped_answer_plan(part.items, limits(part, settings), settings.pass_tokens)
        return answer_plan(part.items, limits(part, settings))
    if grouped:
        return [pack.units for pack in question_packs(part.items)]
    return question_plan(part.items, settings.scoring_tokens, settings.rows_per_batch)


def costs(part: Part, groups: Sequence[Sequence[int]], settings: Run) -> list[int]:
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


def run_items(session: Session, part: Part, wanted: Collection[int], settings: Run, report: Report) -> None:
    """Run the wanted items of a part. Where memory runs out, go on with half as much at once, to the same results.

    Raises PipelineError when ONNX Runtime fails, and names the items that were running; those reported are finished.
    """
    waiting, running = set(wanted), dict[int, None]()

    def started(item: int) -> None:
        running[item] = None

    def finished(item: int, result: Result) -> None:
        running.pop(item, None)
        if item in waiting:
            waiting.discard(item)
            report.finished(item, result)

    parts = 1
    while waiting:
        running.clear()
        try:
            _run(session, part, waiting.copy(), settings, report.advance, started, finished, parts)
        except PROVIDER_ERRORS as error:
            if not out_of_memory(error):
                raise PipelineError(
                    f"Expected ONNX Runtime to run the part `{part.name}`, found on {_titles(part, running)}: "
                    f"{first_line(error)}; what was finished is kept, and `dvc repro` goes on from there."
                ) from error
            if parts > max(settings.rows_per_batch, settings.pass_tokens):
                raise PipelineError(
                    f"Expected {_titles(part, running)} to fit in memory alone, found: {first_line(error)}; what was "
                    "finished is kept: use a device with more memory, or shorter prompts."
                ) from error
            parts *= 2
            report.say(
                f"  memory ran out on {len(running)} item(s) of `{part.name}` ({first_line(error)}); "
                f"going on with 1/{parts} of a batch at once"
            )


def _run(
    session: Session,
    part: Part,
    wanted: Collection[int],
    settings: Run,
    advance: Callable[[int], None],
    started: Callable[[int], None],
    finished: Callable[[int, Result], None],
    parts: int,
) -> None:
    if isinstance(part, Answers):
        choose, bounds = Chooser(session.folder, *part.sampling), limits(part, settings)
        told = (choose, advance, started, finished, wanted, parts, part.stop_text)
        if isinstance(session, ModelSession):
            generate(session, part.items, part.stop, bounds, *told)
        else:
            generate_grouped(session, part.items, part.stop, bounds, settings.pass_tokens, *told)
    elif isinstance(session, ModelSession):
        score(
            session,
            part.items,
            settings.scoring_tokens,
            settings.rows_per_batch,
            advance,
            started,
            finished,
            wanted,
            parts,
        )
    else:
        score_grouped(session, part.items, settings.pass_tokens, advance, started, finished, wanted, parts)


def _titles(part: Part, running: dict[int, None]) -> str:
    """The items of a batch, for a person: the last to start first, since those before it were running well."""
    titles = [part.titles[item] for item in reversed(running)]
    more = f" and {len(titles) - NAMED_ITEMS} more" if len(titles) > NAMED_ITEMS else ""
    return (", ".join(titles[:NAMED_ITEMS]) or "its first batch") + more
