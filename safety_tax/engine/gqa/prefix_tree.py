"""Token sequences as a prefix tree: what several share is run once, and nothing is padding.

Sorted sequences that begin alike lie next to each other. A pack is a tree of some of them, whose every token sees its
own ancestors only. It begins where the first sequence of the pack before it goes another way: keys and values up to
there are still in place.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from safety_tax.engine.batches import PASS_TOKENS, Int64, shared_length


class Unit(NamedTuple):
    """Sequences that stay together, and how many of their leading tokens need no logit."""

    sequences: list[list[int]]
    silent: int


class Pack(NamedTuple):
    """`tokens` follow `prefix`; `parents` has each token's predecessor in `tokens`, −1 for the prefix's last.

    `paths` names, for every unit and sequence, the places of its tokens from `len(prefix)` on.
    """

    units: list[int]
    prefix: list[int]
    tokens: list[int]
    parents: list[int]
    paths: list[list[list[int]]]

    def depths(self) -> Int64:
        """Each token's distance from the prefix: 0 for the first after it."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent < 0 else depths[parent] + 1)
        return np.array(depths, np.int64)

    def ancestors(self) -> NDArray[np.bool_]:
        """[tokens, tokens]: True where the column's token is the row's token or comes before it in its sequence."""
        seen = np.zeros((len(self.tokens), len(self.tokens)), bool)
        for place, parent in enumerate(self.parents):
            if parent >= 0:
                seen[place] = seen[parent]
            seen[place, place] = True
        return seen


def packs(units: Sequence[Unit], tokens_per_pack: int, most: int | None = None) -> Iterator[Pack]:
    """All units, as packs of `tokens_per_pack` tokens beyond their prefix and `most` units; a larger unit is alone.

    A pack's prefix is what all its sequences share with the first sequence of the pack before it. A unit that shares
    less joins only where it is cheap to run the difference again.
    """
    order = sorted(range(len(units)), key=lambda unit: min(units[unit].sequences))
    batch: list[int] = []
    before: Sequence[int] = []
    start = 0
    for unit in order:
        if batch:
            grown = [units[place] for place in [*batch, unit]]
            lower = _prefix_length(grown, before)
            joins = len(batch) != most and lower + PASS_TOKENS > start
            if joins and _size(grown, lower) <= tokens_per_pack:
                batch.append(unit)
                start = lower
                continue
            yield _packed(units, batch, start)
            before = units[batch[0]].sequences[0]
        batch, start = [unit], _prefix_length([units[unit]], before)
    if batch:
        yield _packed(units, batch, start)


def _prefix_length(units: Sequence[Unit], before: Sequence[int]) -> int:
    sequences = [sequence for unit in units for sequence in unit.sequences]
    # In the order of lists, what the first and the last share, all share.
    shared = [shared_length(before, edge) for edge in (min(sequences), max(sequences))]
    length = min([*shared, *(unit.silent for unit in units)])
    # A single token has other last bits: no prefix is one, and no tree that has something before it.
    length -= _size(units, length) == 1
    return length if length > 1 else 0


def _size(units: Sequence[Unit], start: int) -> int:
    """Tokens of the tree beyond a prefix of `start` tokens."""
    sequences = sorted(sequence for unit in units for sequence in unit.sequences)
    new = (len(after) - shared_length(before, after) for before, after in pairwise(sequences))
    return len(sequences[0]) + sum(new) - start


def _packed(units: Sequence[Unit], batch: list[int], start: int) -> Pack:
    tokens: list[int] = []
    parents: list[int] = []
    places: dict[tuple[int, int], int] = {}
    paths: list[list[list[int]]] = []
    for unit in batch:
        paths.append([])
        for sequence in units[unit].sequences:
            place, path = -1, []
            for token in sequence[start:]:
                if (place, token) not in places:
                    places[place, token] = len(tokens)
                    tokens.append(token)
                    parents.append(place)
                place = places[place, token]
                path.append(place)
            paths[-1].append(path)
    return Pack(list(batch), units[batch[0]].sequences[0][:start], tokens, parents, paths)
