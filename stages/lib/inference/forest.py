"""Token sequences as a forest: what several share is run once, and nothing is padding.

Sorted sequences that begin alike lie next to each other. A pack takes as many as fit; what all of them begin with is
its prefix, and the rest is a tree whose every token sees its own ancestors only.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.lib.inference.batches import PASS_TOKENS, Int64


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


def shared_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of leading tokens that both have."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))


def packs(units: Sequence[Unit], tokens_per_pass: int, most: int | None = None) -> Iterator[Pack]:
    """All units, as packs of `tokens_per_pass` tokens beyond their prefix and `most` units; a larger unit is alone.

    A pack's prefix is run in passes of its own, once while the packs that follow begin with it. So it is what all units
    share, and more only where the next unit would else run so much again that another pass is cheaper.
    """
    order = sorted(range(len(units)), key=lambda unit: min(units[unit].sequences))
    batch: list[int] = []
    start = 0
    for unit in order:
        if batch:
            grown = [units[place] for place in [*batch, unit]]
            shared = _prefix_length(grown)
            room = len(batch) != most
            if room and _size(grown, min(start, shared)) <= tokens_per_pass:
                batch, start = [*batch, unit], min(start, shared)
                continue
            if shared >= start + PASS_TOKENS:
                start = shared
                if room and _size(grown, start) <= tokens_per_pass:
                    batch.append(unit)
                    continue
            yield _packed(units, batch, start)
            start = min(start, shared)
        else:
            start = _prefix_length(units)
        batch = [unit]
        if _size([units[unit]], start) > tokens_per_pass:
            start = _prefix_length([units[unit]])
    if batch:
        yield _packed(units, batch, start)


def _prefix_length(units: Sequence[Unit]) -> int:
    sequences = [sequence for unit in units for sequence in unit.sequences]
    # In the order of lists, what the first and the last share, all share.
    return min([shared_length(min(sequences), max(sequences)), *(unit.silent for unit in units)])


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
