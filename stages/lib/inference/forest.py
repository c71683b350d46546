"""Token sequences as a forest: what several share is run once, and nothing is padding.

Sorted sequences that begin alike lie next to each other. A pack takes as many as fit; what all of them begin with is
its prefix, and the rest is a tree whose every token sees its own ancestors only.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.lib.inference.batches import Int64


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
    """All units, as packs of `tokens_per_pass` tokens beyond their prefix and `most` units; a larger unit is alone."""
    order = sorted(range(len(units)), key=lambda unit: min(units[unit].sequences))
    batch: list[int] = []
    for unit in order:
        full = len(batch) == most
        if batch and (full or _size([units[place] for place in [*batch, unit]]) > tokens_per_pass):
            yield _packed(units, batch)
            batch = []
        batch.append(unit)
    if batch:
        yield _packed(units, batch)


def _prefix_length(units: Sequence[Unit]) -> int:
    sequences = [sequence for unit in units for sequence in unit.sequences]
    # In the order of lists, what the first and the last share, all share.
    return min([shared_length(min(sequences), max(sequences)), *(unit.silent for unit in units)])


def _size(units: Sequence[Unit]) -> int:
    """Tokens of the tree beyond its prefix."""
    sequences = sorted(sequence for unit in units for sequence in unit.sequences)
    new = (len(after) - shared_length(before, after) for before, after in pairwise(sequences))
    return len(sequences[0]) + sum(new) - _prefix_length(units)


def _packed(units: Sequence[Unit], batch: list[int]) -> Pack:
    start = _prefix_length([units[unit] for unit in batch])
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
