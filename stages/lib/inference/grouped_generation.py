"""Greedy or sampled generation with continuous batching: finished rows leave, waiting prompts enter."""

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from stages.lib.inference.forest import Pack, Unit, packs
from stages.lib.inference.generation import Chooser, Generated, Limits
from stages.lib.inference.grouped_session import Cache, GroupedSession


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
) -> list[Generated]:
    """Continue every prompt until a stop token or `max_new_tokens`; equal prompts are answered once.

    The result does not depend on who shares a batch. `advance` is told of new tokens, `started` of the items (places in
    `prompts`) of each pack before it runs, `finished` of each item's answer as soon as it ends. Raises PipelineError
    when a logit is not finite.
    """
    choose = choose or Chooser(session.folder)
    items: dict[tuple[int, ...], list[int]] = {}
    for item, prompt in enumerate(prompts):
        items.setdefault(tuple(prompt), []).append(item)

    def start(prompt: tuple[int, ...]) -> None:
        for item in items[prompt]:
            started(item)

    def finish(prompt: tuple[int, ...], generated: Generated) -> None:
        for item in items[prompt]:
            finished(item, generated)

    done: dict[tuple[int, ...], Generated] = {}
    for alike in _of_similar_length(list(items), limits):
        answers = _generate(session, alike, stop_tokens, limits, choose, tokens_per_pass, advance, start, finish)
        done.update(zip(alike, answers, strict=True))
    return [done[tuple(prompt)] for prompt in prompts]


def _of_similar_length(prompts: Sequence[tuple[int, ...]], limits: Limits) -> list[list[tuple[int, ...]]]:
    """Prompts in groups, longest first. Every row of a group has the size of its longest, so a group that is large
    enough to be worth its passes ends where prompts would fill less than half of that.
    """
    groups: list[list[tuple[int, ...]]] = []
    for prompt in sorted(prompts, key=len, reverse=True):
        enough = groups and len(groups[-1]) >= limits.rows_per_batch / 4
        size = len(prompt) + limits.max_new_tokens
        if not groups or (enough and 2 * size < len(groups[-1][0]) + limits.max_new_tokens):
            groups.append([])
        groups[-1].append(prompt)
    return groups


def _generate(
    session: GroupedSession,
    prompts: Sequence[tuple[int, ...]],
    stop_tokens: frozenset[int],
    limits: Limits,
    choose: Chooser,
    tokens_per_pass: int,
    advance: Callable[[int], None],
    start: Callable[[tuple[int, ...]], None],
    finish: Callable[[tuple[int, ...], Generated], None],
) -> list[Generated]:
    longest = max(map(len, prompts)) + limits.max_new_tokens
    most = max(1, min(limits.rows_per_batch, limits.tokens_per_batch // longest))
    # Answers mostly end together, at the limit: equal waves, so that the last one is not a few rows.
    capacity = -(-len(prompts) // -(-len(prompts) // most))
    units = [Unit([list(prompt)], len(prompt) - 1) for prompt in prompts]
    waiting = deque(packs(units, tokens_per_pass, capacity))
    rows = _Rows(session.cache(capacity, longest))
    written: list[list[int]] = [[] for _ in prompts]
    stopped = [False] * len(prompts)

    def take(row: int, token: int) -> bool:
        """Note a row's new token; returns whether the row is finished."""
        item = rows.items[row]
        advance(1)
        stopped[item] = token in stop_tokens
        if not stopped[item]:
            written[item].append(token)
            rows.last[row] = token
        ended = stopped[item] or len(written[item]) == limits.max_new_tokens
        if ended:
            finish(prompts[item], Generated(written[item], "stop" if stopped[item] else "length"))
        return ended

    while waiting or rows.items:
        while waiting and len(rows.items) + len(waiting[0].units) <= capacity:
            for unit in waiting[0].units:
                start(prompts[unit])
            _enter(session, waiting.popleft(), prompts, rows, choose, tokens_per_pass, take)
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
    return [Generated(tokens, "stop" if ended else "length") for tokens, ended in zip(written, stopped, strict=True)]


def _enter(
    session: GroupedSession,
    pack: Pack,
    prompts: Sequence[Sequence[int]],
    rows: _Rows,
    choose: Chooser,
    tokens_per_pass: int,
    take: Callable[[int, int], bool],
) -> None:
    """Run the prompts of a pack and give each a row, but for those whose first token is their last."""
    ends = [path[-1] for (path,) in pack.paths]
    logits = session.run_pack(pack, ends, tokens_per_pass)
    tokens = choose(logits, [prompts[unit] for unit in pack.units], [0] * len(pack.units))
    for unit, (path,), token in zip(pack.units, pack.paths, tokens, strict=True):
        row = len(rows.items)
        session.copy_path(pack, path, rows.cache, row)
        rows.items.append(unit)
        rows.last.append(int(token))
        rows.lengths.append(len(prompts[unit]))
        if take(row, int(token)):
            rows.remove(row)
