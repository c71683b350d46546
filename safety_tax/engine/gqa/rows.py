"""Grouped-query attention in rows: continuous batches on a GPU, and in tests the same schedule on the CPU.

A row of the buffer holds one sequence of tokens. A waiting prompt is prefilled alone into a free row, from where it
leaves what the row already holds: what prompts begin with is run once a row, and nothing is copied. Then it steps with
the others. Questions share one row: in order of their tokens, each begins where it leaves the one before, and an option
of one token needs no pass of its own.
"""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from safety_tax.engine.batches import Int64, shared_length
from safety_tax.engine.choosing import random_of
from safety_tax.engine.gqa.generation import longest, of_similar_length
from safety_tax.engine.gqa.rows_session import Chosen, RowsSession, Wanted
from safety_tax.engine.protocol import Answers, Budget, Choice, Generated, Hooks, Part, Question, Questions, Scores
from safety_tax.engine.session import Float, require_finite

# Prompts of a group for each row, and questions of a group: a run that was stopped runs a begun group again, whole, so
# that what runs beside an item is the same.
WAVES, QUESTIONS = 8, 64


class _Row:
    """One row of the buffer: the tokens whose keys and values it holds, and what is written there, if anything."""

    def __init__(self) -> None:
        self.held: list[int] = []
        self.item: int | None = None
        self.written: list[int] = []
        self.last = 0
        """The newest token, not run yet."""
        self.random = np.random.default_rng(0)
        """Of the item: it gives one number a token."""


class Rows:
    """See `Engine`. What runs together is planned from lengths, beginnings and budgets; the room of a device bounds the
    rows. On a GPU the number of rows chooses kernels, so another card, or another budget, can move last bits.
    """

    padded: ClassVar[bool] = False
    together: ClassVar[bool] = False

    def __init__(self, folder: Path, provider: str) -> None:
        self.folder = folder
        self.choice = Choice(provider, "rows")
        self.session = RowsSession(folder, provider)

    @staticmethod
    def plan(part: Part, budget: Budget) -> list[list[int]]:
        """See `Engine`."""
        if isinstance(part, Questions):
            order = sorted(range(len(part.items)), key=lambda item: min(part.items[item].full))
            return _cut(order, QUESTIONS)
        groups = (sorted(group, key=lambda item: part.items[item]) for group in of_similar_length(part, budget))
        return [cut for group in groups for cut in _cut(group, WAVES * budget.rows)]

    def generate(
        self, requests: Answers, wanted: Collection[int], budget: Budget, hooks: Hooks
    ) -> Iterator[tuple[int, Generated]]:
        """See `Engine`. A group of which anything is wanted runs whole."""
        for group in self.plan(requests, budget):
            if not set(wanted).isdisjoint(group):
                yield from self._generate(requests, group, budget, hooks)

    def score(
        self, questions: Questions, wanted: Collection[int], budget: Budget, hooks: Hooks
    ) -> Iterator[tuple[int, Scores]]:
        """See `Engine`. A group of which anything is wanted runs whole."""
        for group in self.plan(questions, budget):
            if set(wanted).isdisjoint(group):
                continue
            most = max(len(full) for item in group for full in questions.items[item].full)
            self.session.reserve(1, most, budget.generation_tokens, 1, budget.parts)
            row = _Row()
            for item in group:
                hooks.started(item)
                yield item, self._score(row, questions.items[item], questions.titles[item], budget)
                hooks.advance(1)

    def by_steps(self, prompts: list[list[int]], targets: list[Float]) -> list[Float]:
        """See `Engine`. All prompts step together, in rows of different lengths."""
        count, width = len(prompts), targets[0].shape[1]
        self.session.reserve(count, max(map(len, prompts)), count * max(map(len, prompts)), count)
        halves = [len(prompt) // 2 for prompt in prompts]
        for number, (prompt, half) in enumerate(zip(prompts, halves, strict=True)):
            ids = np.array([prompt[:half]], np.int64)
            self.session.run(number, ids, np.zeros(1, np.int64), Wanted.of(np.zeros(1, np.int64)))
        found: list[list[Float]] = [[] for _ in prompts]
        for step in range(max(map(len, targets))):
            # A prompt that has ended says its last token again.
            at = [min(step, len(of_prompt) - 1) for of_prompt in targets]
            ids = np.array([[prompt[half + place]] for prompt, half, place in zip(prompts, halves, at, strict=True)])
            wanted = Wanted.of(
                np.arange(count, dtype=np.int64), np.array([t[a] for t, a in zip(targets, at, strict=True)])
            )
            chosen = self.session.run(0, ids, np.array(halves, np.int64) + at, wanted)
            for number, of_prompt in enumerate(targets):
                if step < len(of_prompt):
                    found[number].append(chosen.logprobs[number])
        return [np.stack(of_prompt).reshape(-1, width) for of_prompt in found]

    def require_provider(self) -> None:
        """See `Engine`."""
        self.session.require_provider()

    def _generate(
        self, requests: Answers, group: Sequence[int], budget: Budget, hooks: Hooks
    ) -> Iterator[tuple[int, Generated]]:
        capacity, tokens = longest(requests, group), budget.generation_tokens
        count = self.session.reserve(len(group), capacity, tokens, budget.rows, budget.parts)
        rows, waiting = [_Row() for _ in range(count)], deque(group)
        while waiting or any(row.item is not None for row in rows):
            for number, row in enumerate(rows):
                while row.item is None and waiting:
                    row.item, row.written = waiting.popleft(), []
                    hooks.started(row.item)
                    prompt = requests.items[row.item]
                    row.random = random_of(requests.sampling.seed, *prompt)
                    wanted = _next_tokens(requests, np.array([len(prompt) - 1], np.int64), [row])
                    chosen = self._extend(number, row, prompt, wanted, budget)
                    yield from self._take(requests, row, int(chosen.tokens[0]), chosen.best[0], hooks)
            if any(row.item is not None for row in rows):
                yield from self._step(requests, rows, hooks)

    def _step(self, requests: Answers, rows: Sequence[_Row], hooks: Hooks) -> Iterator[tuple[int, Generated]]:
        """One new token of each row; those that write nothing run along behind what they hold."""
        busy = [number for number, row in enumerate(rows) if row.item is not None]
        stepping = rows[: _halved_to(len(rows), busy[-1] + 1)]
        tokens = np.array([[row.last if row.item is not None else 0] for row in stepping], np.int64)
        lengths = np.array([len(row.held) for row in stepping], np.int64)
        wanted = _next_tokens(requests, np.arange(len(stepping), dtype=np.int64), stepping)
        found = self.session.run(0, tokens, lengths, wanted)
        for number in busy:
            rows[number].held.append(rows[number].last)
            yield from self._take(requests, rows[number], int(found.tokens[number]), found.best[number], hooks)

    def _take(
        self, requests: Answers, row: _Row, token: int, best: np.float32, hooks: Hooks
    ) -> Iterator[tuple[int, Generated]]:
        """Note a row's new token; a row whose answer it ends is free."""
        assert row.item is not None
        require_finite(np.array(best), self.folder, requests.titles[row.item])
        hooks.advance(1)
        row.last = token
        answer = requests.ended(row.written, token)
        if answer:
            item, row.item = row.item, None
            yield item, answer

    def _score(self, row: _Row, question: Question, title: str, budget: Budget) -> Scores:
        shared = question.shared()
        firsts = np.array([[full[shared] for full in question.full]], np.int64)
        wanted = Wanted.of(np.array([shared - 1], np.int64), firsts)
        stem = self._extend(0, row, question.full[0][:shared], wanted, budget)
        require_finite(stem.best, self.folder, title)
        first = stem.logprobs[0].astype(np.float64)
        totals = []
        for option, full in enumerate(question.full):
            total = float(first[option]) if shared >= len(question.context) else 0.0
            start = max(len(question.context), shared + 1)  # the first token that is scored after the stem
            if start < len(full):
                places = np.arange(start - 1, len(full) - 1, dtype=np.int64)
                wanted = Wanted.of(places, np.array(full[start:], np.int64)[:, None])
                found = self._extend(0, row, full[:-1], wanted, budget)
                require_finite(found.best, self.folder, title)
                total += float(found.logprobs[:, 0].astype(np.float64).sum())
            totals.append(total)
        # Where a logit overflows downwards, the best one is as finite as before.
        require_finite(np.array(totals), self.folder, title)
        of_token = dict(zip(firsts[0].tolist(), first.tolist(), strict=True))
        return Scores(totals, float(np.exp(list(of_token.values())).sum()))

    def _extend(self, number: int, row: _Row, tokens: Sequence[int], wanted: Wanted, budget: Budget) -> Chosen:
        """Let a row hold `tokens`, run in chunks from where they leave what it holds; `wanted` are places in them."""
        start = min(shared_length(row.held, tokens), int(wanted.places[0]))
        row.held = list(tokens[:start])  # what a failed pass leaves is not to be trusted
        found: list[Chosen] = []
        for chunk in _cut(tokens[start:], max(1, budget.pass_tokens // budget.parts)):
            begin = len(row.held)
            inside = (wanted.places >= begin) & (wanted.places < begin + len(chunk))
            asked = wanted._replace(
                places=wanted.places[inside] - begin, targets=wanted.targets[inside], uniforms=wanted.uniforms[inside]
            )
            if not inside.any():  # a pass wants a place at least
                asked = Wanted.of(np.zeros(1, np.int64))
            chosen = self.session.run(number, np.array([chunk], np.int64), np.array([begin], np.int64), asked)
            row.held += chunk
            if inside.any():
                found.append(chosen)
        return Chosen(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))


def _cut(items: Sequence[int], size: int) -> list[list[int]]:
    """Stretches of at most so many."""
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def _halved_to(rows: int, needed: int) -> int:
    """The fewest of all rows, half of them, a quarter and so on that hold those `needed`: few sizes, few kernels."""
    while -(-rows // 2) >= needed and rows > 1:
        rows = -(-rows // 2)
    return rows


def _next_tokens(requests: Answers, places: Int64, rows: Sequence[_Row]) -> Wanted:
    """What is wanted of rows whose next token is at `places`. A draw is of the seed, the prompt and how much is
    written, and of no other row.
    """
    temperature = requests.sampling.temperature
    if temperature == 0:
        return Wanted.of(places)
    uniforms = [0 if row.item is None else row.random.random(dtype=np.float32) for row in rows]
    return Wanted.of(places)._replace(uniforms=np.array(uniforms, np.float32), coldness=1 / temperature)
