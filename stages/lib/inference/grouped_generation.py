"""Greedy or sampled generation with continuous batching: finished rows leave, waiting prompts enter."""

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from stages.lib.inference.forest import Pack, Unit, packs
from stages.lib.inference.generation import Chooser, Generated, Limits
from stages.lib.inference.grouped_session import Cache, GroupedSession


class _Rows:
    """The prompts being answered: row n of the cache belongs to `items[n]`."""

    def __init__(self, cache: Cache, capacity: int) -> None:
        self.cache = cache
        self.capacity = capacity
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
) -> list[Generated]:
    """Continue every prompt until a stop token or `max_new_tokens`; equal prompts are answered once.

    The result does not depend on who shares a batch. `advance` is told of new tokens. Raises PipelineError when a logit
    is not finite.
    """
    choose = choose or Chooser(session.folder)
    distinct = list(dict.fromkeys(map(tuple, prompts)))
    units = [Unit([list(prompt)], len(prompt) - 1) for prompt in distinct]
    waiting = deque(packs(units, tokens_per_pass))
    longest = max(map(len, distinct)) + limits.max_new_tokens
    # Every pack must fit by itself, or it would wait for ever.
    capacity = max(
        min(limits.rows_per_batch, limits.tokens_per_batch // longest), *(len(pack.units) for pack in waiting)
    )
    rows = _Rows(session.cache(capacity, longest), capacity)
    written: list[list[int]] = [[] for _ in distinct]
    stopped = [False] * len(distinct)

    def take(row: int, token: int) -> bool:
        """Note a row's new token; returns whether the row is finished."""
        item = rows.items[row]
        advance(1)
        stopped[item] = token in stop_tokens
        if not stopped[item]:
            written[item].append(token)
            rows.last[row] = token
        return stopped[item] or len(written[item]) == limits.max_new_tokens

    while waiting or rows.items:
        while waiting and len(rows.items) + len(waiting[0].units) <= capacity:
            _enter(session, waiting.popleft(), distinct, rows, choose, tokens_per_pass, take)
        if not rows.items:
            continue
        logits = session.step(rows.cache, np.array(rows.last, np.int64), np.array(rows.lengths, np.int64))
        steps = [len(written[item]) for item in rows.items]
        tokens = choose(logits, [distinct[item] for item in rows.items], steps)
        rows.lengths = [length + 1 for length in rows.lengths]
        # From the end, so that the row that moves into a gap has been looked at.
        for row in reversed(range(len(rows.items))):
            if take(row, int(tokens[row])):
                rows.remove(row)
    done = {
        prompt: Generated(tokens, "stop" if ended else "length")
        for prompt, tokens, ended in zip(distinct, written, stopped, strict=True)
    }
    return [done[tuple(prompt)] for prompt in prompts]


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
