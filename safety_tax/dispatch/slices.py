"""A part's items cut into slices: whole batches, neighbours together, equal in tokens."""

from collections.abc import Collection, Sequence

from safety_tax.engine.opening import engine_of
from safety_tax.engine.protocol import Budget, Choice, Part
from safety_tax.engine.running import costs


def slices(part: Part, wanted: Collection[int], choice: Choice, budget: Budget, count: int) -> list[list[int]]:
    """At most `count` slices of the wanted items, none of them empty.

    A batch stays whole, so it runs once; and neighbours stay together, because they begin alike (a subject's shots).
    """
    needed = set(wanted)
    groups = [[item for item in group if item in needed] for group in engine_of(choice).plan(part, budget)]
    groups = [group for group in groups if group]
    return [[item for place in places for item in groups[place]] for places in _cut(costs(part, groups), count)]


def _cut(weights: Sequence[int], count: int) -> list[list[int]]:
    """Places of the weights, in order, in at most `count` stretches of about the same sum."""
    stretches: list[list[int]] = [[] for _ in range(count)]
    total, before = max(1, sum(weights)), 0
    for place, weight in enumerate(weights):
        middle = before + weight / 2
        stretches[min(count - 1, int(middle * count / total))].append(place)
        before += weight
    return [stretch for stretch in stretches if stretch]
