"""Which variants nobody should choose: another one is surely as good in everything and surely better in something."""

import math
from collections.abc import Mapping

from scipy import stats

from stages.lib.errors import PipelineError
from stages.lib.statistics.paired import PairedDifference, holm

Advantages = Mapping[tuple[str, str], Mapping[str, PairedDifference]]
"""(better, worse) -> criterion -> paired difference better − worse, where more is better."""


def dominated(advantages: Advantages, margin: float, confidence: float = 0.95) -> dict[str, list[str]]:
    """The variants that dominate each of the others, with an error rate of 1 − `confidence` for all of them together.

    A pair counts when the first is not worse in any criterion by `margin` (each tested at the full level: an
    intersection-union test, Berger 1982) and better in one of them (the smallest of the p-values, Holm-corrected over
    the criteria). The larger p-value of the two is the pair's; Holm's correction over all pairs decides.

    Raises PipelineError when `margin` is negative.
    """
    if margin < 0:
        raise PipelineError(f"Expected a margin of at least 0, found {margin}; write .01 for one point.")
    p_values: dict[str, float] = {}
    pairs = {f"{first} > {second}": (first, second) for first, second in advantages}
    for name, pair in pairs.items():
        criteria = advantages[pair]
        not_worse = max(_p_above(difference, -margin) for difference in criteria.values())
        better = min(holm({key: _p_above(difference, 0.0) for key, difference in criteria.items()}).values())
        p_values[name] = max(not_worse, better)
    found: dict[str, list[str]] = {}
    for name, p in holm(p_values).items():
        first, second = pairs[name]
        if p < 1 - confidence:
            found.setdefault(second, []).append(first)
    return found


def _p_above(difference: PairedDifference, value: float) -> float:
    """One-sided p-value of a difference of at most `value`, about the centre of its interval."""
    # Bonett and Price's interval is about an adjusted centre; where it is cut off at ±1, this errs towards zero.
    centre = (difference.lower + difference.upper) / 2
    deviation = math.sqrt(difference.variance)
    if deviation == 0:
        return 0.0 if centre > value else 1.0
    return float(stats.norm.sf((centre - value) / deviation))
