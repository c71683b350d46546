"""Which variants nobody should choose: another one is surely better, and nothing that was measured speaks for them."""

import math
from collections.abc import Mapping

from safety_tax.core.errors import PipelineError
from safety_tax.results.statistics.intervals import normal_tail
from safety_tax.results.statistics.paired import PairedDifference, holm

Pair = tuple[str, str]
Advantages = Mapping[Pair, Mapping[str, PairedDifference]]
"""(better, worse) -> criterion -> paired difference better − worse, where more is better."""


def dominated(advantages: Advantages, worth: Mapping[str, float], confidence: float = 0.95) -> dict[str, list[str]]:
    """The variants that dominate each of the others; `worth` has for each criterion what a point of it is worth.

    One variant dominates another when it is

    1. surely better in one criterion: one-sided tests, Holm-corrected over the criteria;
    2. surely better on the whole: in the sum of all differences times their worth, one-sided. The criteria have
       disjoint items, so their variances add up;
    3. without a sign of being worse in any: none lies more than a standard deviation below zero.

    The larger p-value of the first two is the pair's (intersection-union test, Berger 1982), and Holm's correction
    over all pairs decides: with a probability of 1 − `confidence` no pair is named in which one of the two is not so.

    The sum is for what the third cannot see. Few items, or a dear criterion, make it unsure by just as much as may
    have been lost there; where a variant is better in one thing and pays what that is worth in another, it finds
    nothing. Still, a loss worth less than the gain may go unseen: "no sign" is not "surely not worse".

    Surely not worse in each criterion, by more than a margin, would be that. It is out of reach: a margin of one point
    takes some 6,000 items for each where two variants differ on a tenth of them, and the test would never speak. "Not
    surely worse", an interval that does not lie below zero, is too easy: with 150 prompts that differ like that, it
    overlooks a loss of four points two times in three.

    Raises PipelineError when the worth of a criterion is missing or not above zero.
    """
    for key in {key for criteria in advantages.values() for key in criteria}:
        if not worth.get(key, 0) > 0:
            raise PipelineError(f"Expected a worth above zero for {key!r}, found {worth.get(key)}; see metrics.price.")
    p_values = {pair: _p_value(criteria, worth) for pair, criteria in advantages.items()}
    found: dict[str, list[str]] = {}
    for (first, second), p in holm(p_values).items():
        if p < 1 - confidence and not any(
            d.centre < -math.sqrt(d.variance) for d in advantages[first, second].values()
        ):
            found.setdefault(second, []).append(first)
    return found


def _p_value(criteria: Mapping[str, PairedDifference], worth: Mapping[str, float]) -> float:
    """One-sided, of being better in no criterion or not better on the whole."""
    in_one = min(holm({key: _p_above_zero(d.centre, d.variance) for key, d in criteria.items()}).values())
    sum_of_centres = sum(worth[key] * d.centre for key, d in criteria.items())
    variance = sum(worth[key] ** 2 * d.variance for key, d in criteria.items())
    return max(in_one, _p_above_zero(sum_of_centres, variance))


def _p_above_zero(centre: float, variance: float) -> float:
    """One-sided p-value of a difference of at most zero."""
    if variance == 0:
        return 0.0 if centre > 0 else 1.0
    return normal_tail(centre / math.sqrt(variance))
