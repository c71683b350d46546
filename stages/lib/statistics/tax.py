"""The Safety Tax: utility points paid per safety point gained, and what may be said of it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from scipy import stats

from stages.lib.errors import PipelineError
from stages.lib.statistics.fieller import fieller
from stages.lib.statistics.intervals import Interval, critical_value
from stages.lib.statistics.paired import PairedDifference

TaxStatus = Literal["win", "free", "tradeoff", "unresolved", "no_gain", "dominated", "regressed"]


@dataclass(frozen=True)
class Tax:
    """Utility points lost per safety point gained; None where it may not be printed."""

    status: TaxStatus
    ratio: float | None
    lower: float | None
    upper: float | None


class NetBenefit(NamedTuple):
    """λ·G − L in utility points at one price λ, and the probability that it is positive."""

    price: float
    estimate: float
    lower: float
    upper: float
    probability: float


def assess(gain: PairedDifference, loss: PairedDifference, margin: float, confidence: float = 0.95) -> Tax:
    """Name the outcome by where the two intervals lie, and give the ratio where it means something.

    With G's interval [g, G'] and L's interval [l, L'], every "above" and "below" is by the interval, never by the
    point estimate, so the seven exclude each other and leave nothing out:

        G's interval    L's interval            status
        g > 0           L' < 0                  win
        g > 0           0 ≤ L' < margin         free        (a proven loss below the margin is free, too)
        g > 0           L' ≥ margin, l > 0      tradeoff
        g > 0           L' ≥ margin, l ≤ 0      unresolved
        g ≤ 0 ≤ G'      any                     no_gain
        G' < 0          l > 0                   dominated
        G' < 0          l ≤ 0                   regressed

    The limits are Fieller's and are given when g > 0. The ratio itself stays out of an `unresolved` tax, too: its
    sign is not known, and one number would be read as a price.

    `gain` is safety(m) − safety(0), `loss` is utility(0) − utility(m); both intervals at `confidence`. Raises
    PipelineError when `margin` is negative or the intervals were made at a lower confidence than this one.
    """
    if margin < 0:
        raise PipelineError(f"Expected a margin of at least 0, found {margin}; write .01 for one utility point.")
    status = _status(gain, loss, margin)
    if gain.lower <= 0:
        return Tax(status, None, None, None)
    limits = fieller(loss.estimate, loss.variance, gain.estimate, gain.variance, confidence)
    if limits.kind != "bounded":
        raise PipelineError(
            f"Expected a gain whose interval was made at confidence {confidence}, found one that lies above zero only "
            "at a lower one; use the same `confidence` for the intervals and the tax."
        )
    ratio = None if status == "unresolved" else loss.estimate / gain.estimate
    return Tax(status, ratio, limits.lower, limits.upper)


def net_benefit(gain: PairedDifference, loss: PairedDifference, price: float, confidence: float = 0.95) -> Interval:
    """λ·G − L in utility points, with variance λ²·v_G + v_L: the two item sets are disjoint.

    The net benefit of cost-effectiveness analysis (Stinnett and Mullahy 1998): defined and linear where the ratio is
    not. `price` is λ, the utility points that one safety point is worth.
    """
    estimate = price * gain.estimate - loss.estimate
    half = critical_value(confidence) * math.sqrt(price**2 * gain.variance + loss.variance)
    return Interval(estimate, estimate - half, estimate + half)


def probability_positive(gain: PairedDifference, loss: PairedDifference, price: float) -> float:
    """P(λ·G − L > 0) under the normal approximation, a flat prior understood (van Hout et al. 1994)."""
    estimate = price * gain.estimate - loss.estimate
    deviation = math.sqrt(price**2 * gain.variance + loss.variance)
    if deviation == 0:
        return float(estimate > 0)
    return float(stats.norm.cdf(estimate / deviation))


def net_benefit_curve(
    gain: PairedDifference, loss: PairedDifference, prices: Iterable[float], confidence: float = 0.95
) -> list[NetBenefit]:
    """Net benefit at each price, in the order given: the acceptability curve of van Hout et al. (1994)."""
    return [
        NetBenefit(price, *net_benefit(gain, loss, price, confidence), probability_positive(gain, loss, price))
        for price in prices
    ]


def report_tax(gain: PairedDifference, loss: PairedDifference) -> float | None:
    """The original report's clipped formula, max(L, 0) / max(G, 0); None where the report had `Infinity`."""
    return max(loss.estimate, 0.0) / gain.estimate if gain.estimate > 0 else None


def report_tax_abs(gain: PairedDifference, loss: PairedDifference) -> float | None:
    """The original report's absolute formula, |L| / |G|; None when G is 0."""
    return abs(loss.estimate) / abs(gain.estimate) if gain.estimate else None


def _status(gain: PairedDifference, loss: PairedDifference, margin: float) -> TaxStatus:
    if gain.lower > 0:
        if loss.upper < 0:
            return "win"
        if loss.upper < margin:
            return "free"
        return "tradeoff" if loss.lower > 0 else "unresolved"
    if gain.upper >= 0:
        return "no_gain"
    return "dominated" if loss.lower > 0 else "regressed"
