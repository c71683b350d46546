"""Fieller's confidence set for a ratio."""

import math
from dataclasses import dataclass
from typing import Literal

from safety_tax.core.errors import PipelineError
from safety_tax.results.statistics.intervals import critical_value


@dataclass(frozen=True)
class FiellerSet:
    """The ratios that the data do not rule out; a limit of None has no end on that side.

    `bounded`: lower ≤ R ≤ upper. `complement`: all but lower < R < upper. `everything`: every number, no limits.
    """

    kind: Literal["bounded", "complement", "everything"]
    lower: float | None
    upper: float | None


def fieller(loss: float, loss_variance: float, gain: float, gain_variance: float, confidence: float) -> FiellerSet:
    """The set {R : (L − R·G)² ≤ z²·(v_L + R²·v_G)} for the ratio R = L/G of two independent estimates (Fieller 1954).

    Written as a quadratic in R, a·R² − 2·L·G·R + c ≤ 0 with a = G² − z²·v_G and c = L² − z²·v_L. It is bounded
    exactly when a > 0, that is when the gain differs from zero. At a = 0 it is a half-line, a complement with one
    limit None.

    Raises PipelineError on a negative variance, and when the gain is exactly zero without variance but the loss is
    not zero: then no ratio fits.
    """
    if loss_variance < 0 or gain_variance < 0:
        raise PipelineError(
            f"Expected variances of at least 0, found {loss_variance} (loss) and {gain_variance} (gain); "
            "take them from `paired_difference`."
        )
    z2 = critical_value(confidence) ** 2
    a, half_b, c = gain**2 - z2 * gain_variance, loss * gain, loss**2 - z2 * loss_variance
    if a == 0:
        return _half_line(half_b, c)
    # half_b² − a·c, multiplied out: the subtraction of two nearly equal squares would lose its digits.
    discriminant = z2 * (loss_variance * gain**2 + gain_variance * loss**2 - z2 * loss_variance * gain_variance)
    if discriminant < 0:
        return FiellerSet("everything", None, None)
    root = math.sqrt(discriminant)
    lower, upper = sorted(((half_b - root) / a, (half_b + root) / a))
    return FiellerSet("bounded" if a > 0 else "complement", lower, upper)


def _half_line(half_b: float, c: float) -> FiellerSet:
    """{R : c ≤ 2·half_b·R}."""
    if half_b > 0:
        return FiellerSet("complement", None, c / (2 * half_b))
    if half_b < 0:
        return FiellerSet("complement", c / (2 * half_b), None)
    if c <= 0:
        return FiellerSet("everything", None, None)
    raise PipelineError(
        "Expected a gain that can differ from zero, found a gain and a variance of exactly 0 beside a loss that is "
        "not zero; there is no ratio to give: report the two effects."
    )
