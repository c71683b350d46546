"""Differences between two runs of which only the rates are known, not the items."""

import math
from dataclasses import dataclass

from scipy import stats

from safety_tax.results.statistics.intervals import Interval, critical_value


@dataclass(frozen=True)
class UnpairedDifference:
    """After − before, in the unit of the two; `n` is the smaller number of items, `p` two-sided by the same limits."""

    estimate: float
    lower: float
    upper: float
    n: int
    p: float


def unpaired_difference(before: Interval, after: Interval, n: int, confidence: float) -> UnpairedDifference:
    """Limits out of the limits of both sides: the square root of the sum of the squared distances.

    For Wilson limits this is Newcombe's hybrid score interval (1998, method 10). It takes the sides as independent. On
    the same items they mostly agree, so it is wider than the paired interval: it misses changes, and claims none.
    """
    difference = after.estimate - before.estimate
    below = math.hypot(after.estimate - after.lower, before.upper - before.estimate)
    above = math.hypot(after.upper - after.estimate, before.estimate - before.lower)
    # The distance to the limit on the side of zero is z standard errors.
    towards_zero = below if difference > 0 else above
    score = abs(difference) / towards_zero * critical_value(confidence) if towards_zero else 0.0
    p = float(2 * stats.norm.sf(score))
    return UnpairedDifference(difference, difference - below, difference + above, n, min(p, 1.0))
