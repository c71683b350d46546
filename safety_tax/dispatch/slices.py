"""A part's items cut into shards: whole batches, neighbours together, equal in tokens."""

from collections.abc import Collection, Sequence

from safety_tax.engine.parts import Part, costs, plan
from safety_tax.settings.stages import Run


def shards(part: Part, wanted: Collection[int], grouped: bool, settings: Run, count: int) -> list[list[int]]:
    """At most `count` shards of the wanted items, none of them empty.

    A batch stays whole, so it runs once; and neighbours stay together, because they begin alike (a subject's shots).
    """
    needed = set(wanted)
    groups = [[item for item in group if item in needed] for group in plan(part, grouped, settings)]
    groups = [group for group in groups if group]
    return [
        [item for place in places for item in groups[place]] for places in _cut(costs(part, groups, settings), count)
    ]


def _cut(weights: Sequence[int], count: int) -> list[list[int]]:
    """Places of the weights, in order, in at most `count` stretches of about the same sum."""
    stretches: list[list[int]] = [[] for _ in range(count)]
    total, before = max(1, sum(weights)), 0
    for place, weight in enumerate(weights):
        middle = before + weight / 2
        stretches[min(count - 1, int(middle * count / total))].append(place)
        before += weight
    return [stretch for stretch in stretches if stretch]
