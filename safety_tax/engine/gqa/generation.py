"""Greedy or sampled generation with continuous batching: finished rows leave, waiting prompts enter."""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np

from safety_tax.engine.batches import slices
from safety_tax.engine.choosing import Chooser
from safety_tax.engine.gqa.prefix_tree import Pack, Unit, packs
from safety_tax.engine.gqa.session import Cache, TreeSession
from safety_tax.engine.protocol import Answers, Budget, Generated, Hooks


class _Rows:
    """The prompts being answered: row n of the cache belongs to `items[n]`."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.items: list[int] = []
        self.last: list[int] = []
        self.lengths: list[int] = []

    def remove(self, row: int) -> None:
        """The last row moves into the place of a finished one."""
        end = len(self.items) - 1
        if row != end:
            for buffer in self.cache.buffers:
                buffer[row, :, : self.lengths[end]] = buffer[end, :, : self.lengths[end]]
            self.items[row], self.last[row], self.lengths[row] = self.items[end], self.last[end], self.lengths[end]
        for of in (self.items, self.last, self.lengths):
            of.pop()


def generate(
    session: TreeSession, requests: Answers, wanted: Collection[int], budget: Budget, hooks: Hooks
) -> Iterator[tuple[int, Generated]]:
    """See `Engine.generate`. Some of the prompts run in the packs of all of them, and a budget's parts divide rows and
    passes: neither changes a bit of an answer.
    """
    for group in of_similar_length(requests, budget):
        asked = set(wanted).intersection(group)
        if asked:
            yield from _generate(session, requests, group, asked, budget, hooks)


def answer_plan(requests: Answers, budget: Budget) -> list[list[int]]:
    """Which prompts run together, before each answer has a row of its own."""
    return [pack.units for group in of_similar_length(requests, budget) for pack in _packs(requests, group, budget)]


def longest(requests: Answers, group: Sequence[int]) -> int:
    """Tokens of the longest prompt of a group with its answer."""
    return max(len(requests.items[item]) for item in group) + requests.max_new_tokens


def _capacity(requests: Answers, group: Sequence[int], budget: Budget) -> int:
    most = max(1, min(budget.rows, budget.generation_tokens // longest(requests, group)))
    # Answers mostly end together, at the limit: equal waves, so that the last one is not a few rows.
    return -(-len(group) // -(-len(group) // most))


def _packs(requests: Answers, group: Sequence[int], budget: Budget) -> Iterator[Pack]:
    """A group's prompts in packs, whose units are places in the requests."""
    units = [Unit([list(requests.items[item])], len(requests.items[item]) - 1) for item in group]
    for pack in packs(units, budget.pass_tokens, _capacity(requests, group, budget)):
        yield pack._replace(units=[group[unit] for unit in pack.units])


def of_similar_length(requests: Answers, budget: Budget) -> list[list[int]]:
    """Places in the requests, longest first, in groups. Every row of a group has the size of its longest, so a group
    that is large enough to be worth its passes ends where prompts would fill less than half of that.
    """
    prompts = requests.items
    groups: list[list[int]] = []
    for item in sorted(range(len(prompts)), key=lambda item: len(prompts[item]), reverse=True):
        enough = groups and len(groups[-1]) >= budget.rows / 4
        size = len(prompts[item]) + requests.max_new_tokens
        if not groups or (enough and 2 * size < longest(requests, groups[-1][:1])):
            groups.append([])
        groups[-1].append(item)
    return groups


def _generate(
    session: TreeSession, requests: Answers, group: Sequence[int], wanted: set[int], budget: Budget, hooks: Hooks
) -> Iterator[tuple[int, Generated]]:
    """Answers to the wanted of a group."""
    prompts, choose = requests.items, Chooser(session.folder, *requests.sampling)
    capacity = min(len(wanted), max(1, _capacity(requests, group, budget) // budget.parts))
    # A pack always runs whole; of its prompts, those enter that are wanted, and as many at once as there is room for.
    waiting: deque[tuple[Pack, Sequence[int]]] = deque()
    for pack in _packs(requests, group, budget):
        asked = [number for number, unit in enumerate(pack.units) if unit in wanted]
        waiting.extend((pack, together) for together in slices(asked, max(1, -(-len(asked) // capacity))))
    rows = _Rows(session.cache(capacity, longest(requests, group)))
    written: dict[int, list[int]] = {item: [] for item in wanted}
    ended: list[tuple[int, Generated]] = []

    def take(row: int, token: int) -> bool:
        """Note a row's new token; returns whether the row is finished."""
        item = rows.items[row]
        hooks.advance(1)
        rows.last[row] = token
        answer = requests.ended(written[item], token)
        if answer:
            ended.append((item, answer))
        return answer is not None

    while waiting or rows.items:
        while waiting and len(rows.items) + len(waiting[0][1]) <= capacity:
            pack, admitted = waiting.popleft()
            for number in admitted:
                hooks.started(pack.units[number])
            _admit(session, pack, admitted, prompts, rows, choose, budget.pass_tokens // budget.parts, take)
            yield from ended
            ended.clear()
        if not rows.items:
            continue
        logits = session.step(rows.cache, np.array(rows.last, np.int64), np.array(rows.lengths, np.int64))
        steps = [len(written[item]) for item in rows.items]
        tokens = choose(logits, [prompts[item] for item in rows.items], steps)
        rows.lengths = [length + 1 for length in rows.lengths]
        # From the end, so that the row that moves into a gap has been looked at.
        for row in reversed(range(len(rows.items))):
            if take(row, int(tokens[row])):
                rows.remove(row)
        yield from ended
        ended.clear()


def _admit(
    session: TreeSession,
    pack: Pack,
    admitted: Sequence[int],
    prompts: Sequence[Sequence[int]],
    rows: _Rows,
    choose: Chooser,
    tokens_per_pass: int,
    take: Callable[[int, int], bool],
) -> None:
    """Run the prompts of a pack and give those `admitted` a row each, but for those whose first token is their last."""
    ends = [path[-1] for (path,) in pack.paths]
    (logits,) = session.run_packs([(pack, ends)], tokens_per_pass)
    units = [pack.units[number] for number in admitted]
    tokens = choose(logits[list(admitted)], [prompts[unit] for unit in units], [0] * len(units))
    for number, unit, token in zip(admitted, units, tokens, strict=True):
        (path,) = pack.paths[number]
        row = len(rows.items)
        session.copy_path(pack, path, rows.cache, row)
        rows.items.append(unit)
        rows.last.append(int(token))
        rows.lengths.append(len(prompts[unit]))
        if take(row, int(token)):
            rows.remove(row)
