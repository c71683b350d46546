"""Intervals for one variant's rates and means."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from safety_tax.core.errors import PipelineError


class Interval(NamedTuple):
    """A point estimate and its two-sided confidence limits, in the unit of the estimate."""

    estimate: float
    lower: float
    upper: float


@lru_cache
def critical_value(confidence: float) -> float:
    """The normal quantile z of a two-sided interval: 1.96 for .95. Raises PipelineError outside (0, 1)."""
    if not 0 < confidence < 1:
        raise PipelineError(f"Expected a confidence between 0 and 1, found {confidence}; write .95 for 95 %.")
    return float(stats.norm.ppf(0.5 + confidence / 2))


def normal_tail(z: float) -> float:
    """P(Z > z) of a standard normal: a one-sided p-value, exact far out in the tail, too."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval (Wilson 1927) of a share, a fraction in [0, 1].

    Raises PipelineError when `n` is 0 or `successes` is not among 0..n.
    """
    if n < 1:
        raise PipelineError(
            f"Expected at least one item to take a share of, found {n}; check the rows that were counted."
        )
    if not 0 <= successes <= n:
        raise PipelineError(
            f"Expected a count of successes between 0 and {n}, found {successes}; count each item once."
        )
    critical_value(confidence)
    lower, upper = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    return Interval(successes / n, float(max(lower, 0.0)), float(min(upper, 1.0)))


def mean_interval(values: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Student's t interval (Student 1908) of a mean that is not a share, in the unit of `values`.

    Values that are all equal give an interval of width zero. Raises PipelineError on fewer than two values,
    or on one that is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size < 2:
        raise PipelineError(
            f"Expected at least two values for the interval of a mean, found {array.size}; measure more items."
        )
    if not np.isfinite(array).all():
        place = int(np.flatnonzero(~np.isfinite(array))[0])
        raise PipelineError(
            f"Expected finite values, found {array[place]} at position {place} of {array.size}; "
            "repair the stage that wrote it."
        )
    critical_value(confidence)
    mean = float(array.mean())
    quantile = float(stats.t.ppf(0.5 + confidence / 2, array.size - 1))
    half = quantile * float(array.std(ddof=1)) / math.sqrt(array.size)
    return Interval(mean, mean - half, mean + half)
