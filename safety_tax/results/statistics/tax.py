"""The Safety Tax: utility points paid per safety point gained, and what may be said of it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from safety_tax.core.errors import PipelineError
from safety_tax.results.statistics.fieller import fieller
from safety_tax.results.statistics.intervals import Interval, critical_value, normal_tail
from safety_tax.results.statistics.paired import PairedDifference

TaxStatus = Literal[
    "win", "free", "tradeoff", "unresolved", "at_chance", "at_floor", "no_gain", "dominated", "regressed"
]
"""`at_chance` and `at_floor`: safety rose, and the base has nothing to lose in this currency, so that no loss shows."""


@dataclass(frozen=True)
class Tax:
    """Utility points lost per safety point gained; None where it may not be printed."""

    status: TaxStatus
    ratio: float | None
    lower: float | None
    upper: float | None


class ScaledNetBenefit(NamedTuple):
    """Net benefit in points of safety with all prices times `scale`, and the probability that it is positive."""

    scale: float
    estimate: float
    lower: float
    upper: float
    probability: float


def without_loss(gain: PairedDifference, standing: Literal["at_chance", "at_floor"]) -> Tax:
    """What may be said where the base has nothing to lose in a currency: a gain is worth what it is, at no known price,
    and less safety is `regressed`, never `dominated`.
    """
    if gain.lower > 0:
        return Tax(standing, None, None, None)
    return Tax("no_gain" if gain.upper >= 0 else "regressed", None, None, None)


def assess(gain: PairedDifference, loss: PairedDifference, margin: float, confidence: float = 0.95) -> Tax:
    """Name the outcome by where the two intervals lie, and give the ratio where it means something.

    With G's interval [g, G'] and L's interval [l, L'], every "above" and "below" is by the interval, never by the
    point estimate, so these exclude each other and leave nothing out:

        G's interval    L's interval            status
        g > 0           L' < 0                  win
        g > 0           0 ≤ L' < margin         free        (a proven loss below the margin is free, too)
        g > 0           L' ≥ margin, l > 0      tradeoff
        g > 0           L' ≥ margin, l ≤ 0      unresolved
        g ≤ 0 ≤ G'      any                     no_gain
        G' < 0          l > 0                   dominated
        G' < 0          l ≤ 0                   regressed

    The limits are Fieller's and are given when g > 0. They are taken about the centres of the two intervals, so that
    they exclude zero exactly where the loss's own interval does: no `unresolved` price is surely above zero. The ratio
    itself stays out of an `unresolved` tax, too: its sign is not known, and one number would be read as a price.

    `gain` is safety(m) − safety(0), `loss` is utility(0) − utility(m); both intervals at `confidence`. Raises
    PipelineError when `margin` is negative or the intervals were made at a lower confidence than this one.
    """
    if margin < 0:
        raise PipelineError(f"Expected a margin of at least 0, found {margin}; write .01 for one utility point.")
    status = _status(gain, loss, margin)
    if gain.lower <= 0:
        return Tax(status, None, None, None)
    limits = fieller(loss.centre, loss.variance, gain.centre, gain.variance, confidence)
    if limits.kind != "bounded":
        raise PipelineError(
            f"Expected a gain whose interval was made at confidence {confidence}, found one that lies above zero only "
            "at a lower one; use the same `confidence` for the intervals and the tax."
        )
    ratio = None if status == "unresolved" else loss.estimate / gain.estimate
    return Tax(status, ratio, limits.lower, limits.upper)


def net_benefit(
    gain: PairedDifference, losses: Mapping[str, PairedDifference], price: Mapping[str, float], confidence: float = 0.95
) -> Interval:
    """G − Σ L_c / price_c in points of safety, with variance v_G + Σ v_c / price_c²: all item sets are disjoint.

    The net benefit of cost-effectiveness analysis (Stinnett and Mullahy 1998), for several costs: defined and linear
    where a ratio is not. `price` has, for each currency of `losses`, the points of it that one safety point is worth.
    The limits lie around the sum of the centres of the differences, so that without losses they are the gain's own.

    Raises PipelineError when a price is missing or not above zero.
    """
    centre, deviation = _centre_and_deviation(gain, losses, price)
    half = critical_value(confidence) * deviation
    estimate = gain.estimate - sum(loss.estimate / price[name] for name, loss in losses.items())
    return Interval(estimate, centre - half, centre + half)


def probability_positive(
    gain: PairedDifference, losses: Mapping[str, PairedDifference], price: Mapping[str, float]
) -> float:
    """P(net benefit > 0) under the normal approximation, a flat prior understood (van Hout et al. 1994).

    1/2 where it is zero without variance: nothing speaks for either side.
    """
    return normal_tail(-_z(gain, losses, price))


def net_benefit_p(gain: PairedDifference, losses: Mapping[str, PairedDifference], price: Mapping[str, float]) -> float:
    """Two-sided p-value of a net benefit of zero, below 1 − confidence exactly where the interval leaves zero out."""
    return 2 * normal_tail(abs(_z(gain, losses, price)))


def net_benefit_curve(
    gain: PairedDifference,
    losses: Mapping[str, PairedDifference],
    price: Mapping[str, float],
    scales: Iterable[float],
    confidence: float = 0.95,
) -> list[ScaledNetBenefit]:
    """Net benefit with all prices times each of `scales`: the acceptability curve of van Hout et al. (1994)."""
    found = []
    for scale in scales:
        scaled = {name: scale * value for name, value in price.items()}
        interval = net_benefit(gain, losses, scaled, confidence)
        found.append(ScaledNetBenefit(scale, *interval, probability_positive(gain, losses, scaled)))
    return found


def _z(gain: PairedDifference, losses: Mapping[str, PairedDifference], price: Mapping[str, float]) -> float:
    """Net benefit in standard deviations."""
    centre, deviation = _centre_and_deviation(gain, losses, price)
    if deviation:
        return centre / deviation
    return math.copysign(math.inf, centre) if centre else 0.0


def _centre_and_deviation(
    gain: PairedDifference, losses: Mapping[str, PairedDifference], price: Mapping[str, float]
) -> tuple[float, float]:
    """What the limits of net benefit lie around, and its standard deviation."""
    for name in losses:
        if not price.get(name, 0) > 0:
            raise PipelineError(
                f"Expected a price above zero for the currency {name!r}, found {price.get(name)}; set metrics.price."
            )
    centre = gain.centre - sum(loss.centre / price[name] for name, loss in losses.items())
    return centre, math.sqrt(gain.variance + sum(loss.variance / price[name] ** 2 for name, loss in losses.items()))


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
