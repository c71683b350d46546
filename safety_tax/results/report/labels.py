"""Names beside the marks of a picture, where there is room: none covers a mark, another name or the picture's edge."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from safety_tax.results.iso_tax import Limits

# Pixels, of the narrowest picture: on a wider one marks lie further apart, and names are as long as here.
WIDTH, HEIGHT = 230, 250
LETTER, LINE, MARK, RADIUS = 6.8, 14.0, 8.0, 5.0
LONGEST = 22  # letters of a name


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        """Whether the two overlap."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


class Place(NamedTuple):
    """Where a name stands beside its mark."""

    align: str
    dx: float
    dy: float


def shown_name(name: str) -> str:
    """A name, cut where it is too long to stand in a picture."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def places(points: Sequence[tuple[str, float, float]], across: Limits, up: Limits) -> dict[str, Place]:
    """A place for each name that has room; those that come first choose first."""
    pixels = {
        name: (
            (x - across[0]) / (across[1] - across[0]) * WIDTH,
            (up[1] - y) / (up[1] - up[0]) * HEIGHT,
        )
        for name, x, y in points
    }
    taken = [Box(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y in pixels.values()]
    found = {}
    for own, (name, (x, y)) in enumerate(pixels.items()):
        others = taken[:own] + taken[own + 1 :]
        for place, box in _around(x, y, LETTER * len(shown_name(name))):
            inside = box.left >= 0 and box.right <= WIDTH and box.top >= 0 and box.bottom <= HEIGHT
            if inside and not any(box.meets(other) for other in others):
                found[name] = place
                taken.append(box)
                break
    return found


def _around(x: float, y: float, width: float) -> Iterator[tuple[Place, Box]]:
    """The four corners of a mark, since its interval's cross takes its sides."""
    half = LINE / 2
    for dy in (-MARK, MARK):
        yield Place("left", MARK, dy), Box(x + MARK, y + dy - half, x + MARK + width, y + dy + half)
        yield Place("right", -MARK, dy), Box(x - MARK - width, y + dy - half, x - MARK, y + dy + half)
