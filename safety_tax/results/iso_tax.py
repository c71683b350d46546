"""Lines of equal tax in a picture of safety gained against what was lost: which to draw, and where they end."""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

TAXES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
LABEL = 0.55  # inches that a tax's label takes along its line
APART = 0.2  # inches between the middles of two labels, at least

Limits = tuple[float, float]


class TaxLine(NamedTuple):
    """A line of equal tax: where it leaves the panel, in points."""

    tax: float
    end: tuple[float, float]


def padded(values: Sequence[float]) -> Limits:
    """Limits a little beyond the values, and at least five points apart."""
    low, high = min(values), max(values)
    room = max(0.06 * (high - low), 0.5, (5 - (high - low)) / 2)
    return low - room, high + room


def lines_of_equal_tax(across: Limits, up: Limits, price: float, inches: tuple[float, float]) -> list[TaxLine]:
    """The price's line, and those whose labels, at their ends, are clear of each other's and of the line of no loss.

    `across` and `up` are the panel's limits in points, with zero inside; `inches` is about its width and height.
    """
    (left, right), (low, high) = across, up
    across_inches, up_inches = inches[0] / (right - left), inches[1] / (high - low)
    chosen: list[TaxLine] = []
    taken: list[tuple[float, float]] = []
    for tax in (price, *(tax for tax in TAXES if tax != price)):
        end = min(right, -low / tax)
        x, y = end * across_inches, tax * end * up_inches
        length = math.hypot(x, y)
        label = [(x * at / length, y * at / length) for at in (length, length - LABEL / 2, length - LABEL)]
        clear = length > 2 * LABEL and label[-1][1] > APART / 2
        clear = clear and all(math.dist(one, other) > APART for one, other in product(label, taken))
        if clear or tax == price:
            chosen.append(TaxLine(tax, (end, -tax * end)))
            taken += label
    return chosen
