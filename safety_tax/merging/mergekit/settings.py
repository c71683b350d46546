"""A parameter of a mergekit configuration: one value, a gradient over the layers, or a choice by the tensor's name."""

import math
from collections.abc import Mapping
from typing import NamedTuple

Scalar = bool | int | float | str
Value = bool | float
EVERYTHING = "*"
WORDS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1", "1.0"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0", "0.0"), False),
}


class Choice(NamedTuple):
    """A value, or the points of a gradient, for the tensors whose name contains `filter`."""

    points: tuple[Scalar, ...]
    gradient: bool
    filter: str | None = None

    def holds(self, name: str) -> bool:
        """Whether it is for the tensor of that name."""
        return self.filter in (None, EVERYTHING) or str(self.filter) in name


Setting = tuple[Choice, ...]
"""The first one that holds counts."""
Settings = Mapping[str, Setting]
Kind = type[bool] | type[float]


def typed(value: Scalar, kind: Kind) -> Value:
    """A scalar of YAML as a parameter's type, as mergekit takes it. Raises ValueError when it is none."""
    if kind is bool:
        found = WORDS.get(str(value).lower())
        if found is None:
            raise ValueError(f"{value!r} is neither true nor false")
        return found
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no number")
    return number


def evaluate(setting: Setting, name: str, t: float, kind: Kind) -> Value | None:
    """The value for one tensor; None where no choice is for it.

    `t` is how far its layer lies in the slice, from 0 to 1; a gradient is a line from point to point, evenly spaced.
    """
    choice = next((choice for choice in setting if choice.holds(name)), None)
    if choice is None:
        return None
    points = [typed(point, kind) for point in choice.points]
    if not choice.gradient:
        return points[0]
    if kind is bool:
        return points[int(t * (len(points) - 1))]
    at = t * (len(points) - 1)
    left = int(at)
    right = min(len(points) - 1, left + 1)
    return (1 - (at - left)) * points[left] + (at - left) * points[right]
