"""Greedy or sampled generation with continuous batching: finished rows leave, waiting prompts enter."""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np

from safety_tax.engine.batches import slices
from safety_tax.engine.generation import Chooser, Generated, Limits, StopText
from safety_tax.engine.grouped_session import Cache, GroupedSession
from safety_tax.engine.prefix_tree import Pack, Unit, packs


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


def generate_grouped(
    session: GroupedSession,
    prompts: Sequence[Sequence[int]],
    stop_tokens: frozenset[int],
    limits: Limits,
    tokens_per_pass: int,
    choose: Chooser | None = None,
    advance: Callable[[int], None] = lambda tokens: None,
    started: Callable[[int], None] = lambda item: None,
    finished: Callable[[int, Generated], None] = lambda item, generated: None,
    wanted: Collection[int] | None = None,
    parts: int = 1,
    stop_text: StopText | None = None,
) -> list[Generated]:
    """Continue every prompt until a stop token, a string of `stop_text` or `max_new_tokens`.

    The result does not depend on who shares a batch. `advance` is told of new tokens, `started` of the items (places in
    `prompts`) of each pack before it runs, `finished` of each item's answer as soon as it ends. `wanted` answers some
    items only, their prompts run in the packs of all of them, and `parts` divides rows and passes by so much; neither
    changes a bit of an answer. Returns the answers to the wanted prompts, in their order. Raises PipelineError when a
    logit is not finite.
    """
    choose = choose or Chooser(session.folder)
    needed = set(range(len(prompts)) if wanted is None else wanted)
    done: dict[int, Generated] = {}
    for group in _of_similar_length(prompts, limits):
        asked = needed.intersection(group)
        if asked:
            done |= _generate(
                session,
                prompts,
                group,
                asked,
                stop_tokens,
                stop_text,
                limits,
                choose,
                tokens_per_pass,
                parts,
                advance,
                started,
                finished,
            )
    return [done[item] for item in sorted(needed)]


def grouped_answer_plan(prompts: Sequence[Sequence[int]], limits: Limits, tokens_per_pass: int) -> list[list[int]]:
    """Which prompts run together, before each answer has a row of its own."""
    return [
        pack.units
        for group in _of_similar_length(prompts, limits)
        for pack in _packs(prompts, group, limits, tokens_per_pass)
    ]


def _longest(prompts: Sequence[Sequence[int]], group: Sequence[int], limits: Limits) -> int:
    return max(len(prompts[item]) for item in group) + limits.max_new_tokens


def _capacity(prompts: Sequence[Sequence[int]], group: Sequence[int], limits: Limits) -> int:
    most = max(1, min(limits.rows_per_batch, limits.tokens_per_batch // _longest(prompts, group, limits)))
    # Answers mostly end together, at the limit: equal waves, so that the last one is not a few rows.
    return -(-len(group) // -(-len(group) // most))


def _packs(
    prompts: Sequence[Sequence[int]], group: Sequence[int], limits: Limits, tokens_per_pass: int
) -> Iterator[Pack]:
    """A group's prompts in packs, whose units are places in `prompts`."""
    units = [Unit([list(prompts[item])], len(prompts[item]) - 1) for item in group]
    for pack in packs(units, tokens_per_pass, _capacity(prompts, group, limits)):
        yield pack._replace(units=[group[unit] for unit in pack.units])


def _of_similar_length(prompts: Sequence[Sequence[int]], limits: Limits) -> list[list[int]]:
    """Places in `prompts`, longest first, in groups. Every row of a group has the size of its longest, so a group that
    is large enough to be worth its passes ends where prompts would fill less than half of that.
    """
    groups: list[list[int]] = []
    for item in sorted(range(len(prompts)), key=lambda item: len(prompts[item]), reverse=True):
        enough = groups and len(groups[-1]) >= limits.rows_per_batch / 4
        size = len(prompts[item]) + limits.max_new_tokens
        if not groups or (enough and 2 * size < _longest(prompts, groups[-1][:1], limits)):
            groups.append([])
        groups[-1].append(item)
    return groups


def _generate(
    session: GroupedSession,
    prompts: Sequence[Sequence[int]],
    group: Sequence[int],
    needed: set[int],
    stop_tokens: frozenset[int],
    stop_text: StopText | None,
    limits: Limits,
    choose: Chooser,
    tokens_per_pass: int,
    parts: int,
    advance: Callable[[int], None],
    started: Callable[[int], None],
    finished: Callable[[int, Generated], None],
) -> dict[int, Generated]:
    """Answers to the `needed` of a group, by their places in `prompts`."""
    capacity = min(len(needed), max(1, _capacity(prompts, group, limits) // parts))
    # A pack always runs whole; of its prompts, those enter that are needed, and as many at once as there is room for.
    waiting: deque[tuple[Pack, Sequence[int]]] = deque()
    for pack in _packs(prompts, group, limits, tokens_per_pass):
        asked = [number for number, unit in enumerate(pack.units) if unit in needed]
        waiting.extend((pack, together) for together in slices(asked, max(1, -(-len(asked) // capacity))))
    rows = _Rows(session.cache(capacity, _longest(prompts, group, limits)))
    written: dict[int, list[int]] = {item: [] for item in needed}
    done: dict[int, Generated] = {}

    def take(row: int, token: int) -> bool:
        """Note a row's new token; returns whether the row is finished."""
        item = rows.items[row]
        advance(1)
        stopped = token in stop_tokens
        if not stopped:
            written[item].append(token)
            rows.last[row] = token
            stopped = stop_text is not None and stop_text.ends(written[item])
        ended = stopped or len(written[item]) == limits.max_new_tokens
        if ended:
            done[item] = Generated(written[item], "stop" if stopped else "length")
            finished(item, done[item])
        return ended

    while waiting or rows.items:
        while waiting and len(rows.items) + len(waiting[0][1]) <= capacity:
            pack, entering = waiting.popleft()
            for number in entering:
                started(pack.units[number])
            _enter(session, pack, entering, prompts, rows, choose, tokens_per_pass // parts, take)
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
    return done


def _enter(
    session: GroupedSession,
    pack: Pack,
    entering: Sequence[int],
    prompts: Sequence[Sequence[int]],
    rows: _Rows,
    choose: Chooser,
    tokens_per_pass: int,
    take: Callable[[int, int], bool],
) -> None:
    """Run the prompts of a pack and give those `entering` a row each, but for those whose first token is their last."""
    ends = [path[-1] for (path,) in pack.paths]
    (logits,) = session.run_packs([(pack, ends)], tokens_per_pass)
    units = [pack.units[number] for number in entering]
    tokens = choose(logits[list(entering)], [prompts[unit] for unit in units], [0] * len(units))
    for number, unit, token in zip(entering, units, tokens, strict=True):
        (path,) = pack.paths[number]
        row = len(rows.items)
        session.copy_path(pack, path, rows.cache, row)
        rows.items.append(unit)
        rows.last.append(int(token))
        rows.lengths.append(len(prompts[unit]))
        if take(row, int(token)):
            rows.remove(row)
