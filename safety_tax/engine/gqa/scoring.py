"""Log-probabilities of the options of multiple-choice questions: every token that questions share is run once."""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from safety_tax.core.processors import usable_cores
from safety_tax.engine.gqa.prefix_tree import Pack, Unit, packs
from safety_tax.engine.gqa.session import TreeSession
from safety_tax.engine.plain.scoring import mass
from safety_tax.engine.protocol import Budget, Hooks, Question, Scores
from safety_tax.engine.session import Float, require_finite

# Questions up to so many tokens together are one tree, larger ones a tree each: a pass has a limited number of blocks.
PACK_TOKENS = 96


class _Asked(NamedTuple):
    """A pack's questions.

    `scored` has of every scored token its question, its option, the place of the token before it and itself;
    `shared_ends` the last place that a question's options share; `wanted` all places, ascending.
    """

    units: list[int]
    scored: list[tuple[int, int, int, int]]
    shared_ends: list[int]
    wanted: list[int]


def question_packs(questions: Sequence[Question]) -> Iterator[Pack]:
    """A unit a question; an option's last token is not fed: nobody asks what follows it."""
    units = [Unit([full[:-1] for full in question.full], question.shared() - 1) for question in questions]
    return packs(units, PACK_TOKENS)


def score(
    session: TreeSession, questions: Sequence[Question], wanted: Collection[int], budget: Budget, hooks: Hooks
) -> Iterator[tuple[int, Scores]]:
    """See `Engine.score`. Some of the questions run in the packs of all of them, and a budget's parts divide a pass:
    neither changes a bit of a score.
    """
    running: deque[_Asked] = deque()

    def starting() -> Iterator[tuple[Pack, Sequence[int]]]:
        for pack in question_packs(questions):
            asked = [unit for unit in pack.units if unit in wanted]
            if asked:
                for unit in asked:
                    hooks.started(unit)
                running.append(_asked(pack, questions))
                yield pack, running[-1].wanted

    for logits in session.run_packs(starting(), budget.pass_tokens // budget.parts):
        of_pack = running.popleft()
        scored = zip(of_pack.units, _scores(of_pack, logits, questions, session.folder), strict=True)
        asked = [(unit, scores) for unit, scores in scored if unit in wanted]
        yield from asked
        hooks.advance(len(asked))


def _asked(pack: Pack, questions: Sequence[Question]) -> _Asked:
    start = len(pack.prefix)
    scored: list[tuple[int, int, int, int]] = []
    shared_ends = []
    for number, (unit, paths) in enumerate(zip(pack.units, pack.paths, strict=True)):
        question = questions[unit]
        shared_ends.append(paths[0][question.shared() - 1 - start])
        for option, (full, path) in enumerate(zip(question.full, paths, strict=True)):
            for place in range(len(question.context), len(full)):
                scored.append((number, option, path[place - 1 - start], full[place]))
    return _Asked(pack.units, scored, shared_ends, sorted({place for _, _, place, _ in scored} | set(shared_ends)))


def _scores(asked: _Asked, logits: Float, questions: Sequence[Question], folder: Path) -> list[Scores]:
    line = {place: number for number, place in enumerate(asked.wanted)}
    normalisers = _log_normalisers(logits)
    require_finite(normalisers, folder)
    totals = [[0.0] * len(questions[unit].full) for unit in asked.units]
    for number, option, place, token in asked.scored:
        totals[number][option] += float(logits[line[place], token]) - float(normalisers[line[place]])
    require_finite(np.concatenate(totals), folder)
    return [
        Scores(
            total, mass(logits[line[end]], sorted({full[questions[unit].shared()] for full in questions[unit].full}))
        )
        for total, end, unit in zip(totals, asked.shared_ends, asked.units, strict=True)
    ]


def _log_normalisers(logits: Float) -> Float:
    """log Σ exp of each row, in float64; the rows of a vocabulary are long enough to share among the cores."""
    parts = np.array_split(logits, min(usable_cores(), len(logits)))
    with ThreadPoolExecutor(len(parts)) as pool:
        found: Float = np.concatenate(list(pool.map(_log_normalisers_of, parts)))
    return found


def _log_normalisers_of(logits: Float) -> Float:
    found = np.empty(len(logits))
    # Row by row in one buffer, so that no second copy of all logits is made.
    weights = np.empty(logits.shape[-1], np.float32)
    for number, row in enumerate(logits):
        highest = np.float32(row.max())
        with np.errstate(invalid="ignore"):  # infinity less infinity is no number, and refused as such
            np.subtract(row, highest, out=weights, dtype=np.float32)
        found[number] = float(highest) + np.log(np.exp(weights, out=weights).sum(dtype=np.float64))
    return found
