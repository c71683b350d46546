"""Short ways to have an engine answer and score, for tests."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from safety_tax.engine.protocol import (
    GREEDY,
    Answers,
    Budget,
    Engine,
    Generated,
    Hooks,
    Question,
    Questions,
    Sampling,
    Scores,
    StopText,
)


class Limits(NamedTuple):
    """New tokens of an answer, and tokens and rows that are written together."""

    max_new_tokens: int
    tokens: int
    rows: int


def answered(
    engine: Engine,
    prompts: Sequence[list[int]],
    stop: frozenset[int],
    limits: Limits,
    per_pass: int = 4096,
    sampling: Sampling = GREEDY,
    wanted: Collection[int] | None = None,
    parts: int = 1,
    stop_text: StopText | None = None,
) -> list[Generated]:
    """Answers to the wanted prompts, in their order."""
    titles = [f"the item {number}" for number in range(len(prompts))]
    part = Answers("answers", list(prompts), stop, titles, limits.max_new_tokens, stop_text, sampling)
    budget = Budget(limits.tokens, limits.rows, per_pass, 4096, parts)
    asked = range(len(prompts)) if wanted is None else wanted
    found = dict(engine.generate(part, asked, budget, Hooks()))
    return [found[item] for item in sorted(asked)]


def scored(
    engine: Engine,
    questions: Sequence[Question],
    per_pass: int,
    rows: int = 64,
    wanted: Collection[int] | None = None,
    parts: int = 1,
) -> list[Scores]:
    """Scores of the wanted questions, in their order."""
    part = Questions("questions", list(questions), [f"the item {number}" for number in range(len(questions))])
    asked = range(len(questions)) if wanted is None else wanted
    found = dict(engine.score(part, asked, Budget(4096, rows, per_pass, per_pass, parts), Hooks()))
    return [found[item] for item in sorted(asked)]
