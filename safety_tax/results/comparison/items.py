"""Verdicts of two revisions on the same items, or their rates alone -> which changed, by more than noise or not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from safety_tax.core.currencies import CURRENCIES
from safety_tax.core.rows import Verdict
from safety_tax.results.measures import MEANS, Measure, measures, values_of
from safety_tax.results.statistics.intervals import Interval
from safety_tax.results.statistics.paired import PairedDifference, holm, mcnemar_exact, paired_difference
from safety_tax.results.statistics.unpaired import UnpairedDifference, unpaired_difference

Variants = Mapping[str, Sequence[Verdict]]
Rates = Mapping[str, Mapping[str, tuple[Interval, int]]]
"""Variant -> rate -> its value with limits, and the number of its items."""
AS_WRITTEN = 1e-5
"""Relative: two committed numbers nearer to each other are one number, rounded."""

# +1 where more is better, -1 where less is. The others (partial, unjudged, truncated, letter_mass) only describe.
BETTER = {
    **{currency.measure: 1 for currency in CURRENCIES.values()},
    "safety": 1,
    "jailbreak_resistance": 1,
    "harm_rate": -1,
    "over_refusal": -1,
    "degenerate": -1,
    "looped": -1,
    "unfinished": -1,
    "utility_letter": 1,
    "utility_continuation": 1,
    "utility_soft": 1,
    "bits_per_byte": -1,
    "reasoning_strict": 1,
    "instructions_loose": 1,
}
# A fall of one of these is a regression.
WATCHED = ("safety", *(currency.measure for currency in CURRENCIES.values()))


@dataclass(frozen=True)
class Change:
    """One rate of one variant, before and after: on the items that both sides were judged on, or unpaired."""

    variant: str
    rate: str
    before: float
    after: float
    difference: PairedDifference | UnpairedDifference
    up: list[str]
    """Ids of the items whose answer turned from no to yes; empty for a mean."""
    down: list[str]
    p: float | None
    """Exact McNemar; None for a mean, which has no flips to count. Unpaired: by the interval."""
    p_holm: float | None
    """`p`, Holm-corrected over the variants of the model in which the rate has flips."""
    beyond_noise: bool
    """The interval leaves zero out and, where there is a `p_holm`, it is below 1 - confidence."""
    unpaired: int
    """Items that only one side was judged on, left out here."""

    @property
    def moved(self) -> bool:
        """Did any item change or, unpaired, the number?"""
        if isinstance(self.difference, UnpairedDifference):
            return not math.isclose(self.before, self.after, rel_tol=AS_WRITTEN)
        return self.difference.discordance > 0

    @property
    def better(self) -> bool | None:
        """None for a rate that only describes."""
        sign = BETTER.get(self.rate)
        return None if sign is None else sign * self.difference.estimate > 0


class Comparison(NamedTuple):
    """Of one model: every change, by variant and then by rate."""

    utility_format: str
    changes: list[Change]
    one_sided: list[tuple[str, str]]
    """(variant, rate) without an item that both sides were judged on."""

    @property
    def distinct(self) -> list[Change]:
        """The changes without the rate, `utility_letter` or `utility_continuation`, that `utility` repeats."""
        return [change for change in self.changes if change.rate != f"utility_{self.utility_format}"]


def compare(before: Variants, after: Variants, utility_format: str, confidence: float) -> Comparison:
    """Every rate of every variant that both sides have. The items of a variant must be the same: see `unshared`.

    A rate is paired on the items that both sides were judged on: a judge may leave out an answer in a language that it
    does not know. Raises PipelineError when those are too few for the interval of a mean.
    """
    changes: list[Change] = []
    one_sided: list[tuple[str, str]] = []
    for variant in (name for name in after if name in before):
        groups = {verdict.id: verdict.group for verdict in before[variant]}
        for rate, measure in measures(utility_format).items():
            first, second = values_of(measure, before[variant]), values_of(measure, after[variant])
            if first.keys() & second.keys():
                changes.append(_change(variant, rate, measure, first, second, groups, confidence))
            elif first or second:
                one_sided.append((variant, rate))
    return Comparison(utility_format, _corrected(changes, confidence), one_sided)


def compare_rates(before: Rates, after: Rates, utility_format: str, confidence: float) -> Comparison:
    """Every rate of every variant that both sides have, unpaired: there are no items to pair, and no flips."""
    changes: list[Change] = []
    one_sided: list[tuple[str, str]] = []
    for variant in (name for name in after if name in before):
        for rate in measures(utility_format):
            sides = [side[variant][rate] for side in (before, after) if rate in side[variant]]
            if len(sides) == 1:
                one_sided.append((variant, rate))
            if len(sides) < 2:
                continue
            (first, first_n), (second, second_n) = sides
            difference = unpaired_difference(first, second, min(first_n, second_n), confidence)
            ends = first.estimate, second.estimate
            changes.append(Change(variant, rate, *ends, difference, [], [], difference.p, None, False, 0))
    return Comparison(utility_format, _corrected(changes, confidence), one_sided)


def unshared(before: Sequence[Verdict], after: Sequence[Verdict]) -> tuple[int, int]:
    """How many items only the first side was asked, and how many only the second."""
    first, second = ({(verdict.id, verdict.kind) for verdict in verdicts} for verdicts in (before, after))
    return len(first - second), len(second - first)


def regressions(changes: Sequence[Change]) -> list[Change]:
    """Falls of safety or of a currency's measure that are more than noise."""
    return [c for c in changes if c.rate in WATCHED and c.beyond_noise and c.difference.upper < 0]


def _change(
    variant: str,
    rate: str,
    measure: Measure,
    before: Mapping[str, float],
    after: Mapping[str, float],
    groups: Mapping[str, str],
    confidence: float,
) -> Change:
    ids = [item for item in before if item in after]
    values = [before[item] for item in ids], [after[item] for item in ids]
    mean = measure in MEANS.values()
    return Change(
        variant=variant,
        rate=rate,
        before=sum(values[0]) / len(ids),
        after=sum(values[1]) / len(ids),
        difference=paired_difference(*values, [groups[item] for item in ids], confidence),
        up=[] if mean else [item for item in ids if before[item] < after[item]],
        down=[] if mean else [item for item in ids if before[item] > after[item]],
        p=None if mean else mcnemar_exact(*values),
        p_holm=None,
        beyond_noise=False,
        unpaired=len(before.keys() ^ after.keys()),
    )


def _corrected(changes: Sequence[Change], confidence: float) -> list[Change]:
    """The changes with `p_holm` and `beyond_noise`; a rate's tests on all variants are one family.

    A test without flips can never reject, so it takes no share of the level (Tarone 1990).
    """
    families: dict[str, dict[str, float]] = {}
    for change in changes:
        if change.p is not None and change.moved:
            families.setdefault(change.rate, {})[change.variant] = change.p
    corrected = {rate: holm(family) for rate, family in families.items()}
    found = []
    for change in changes:
        p_holm = corrected.get(change.rate, {}).get(change.variant, change.p)
        clear_of_zero = change.difference.lower > 0 or change.difference.upper < 0
        significant = p_holm is None or p_holm < 1 - confidence
        found.append(replace(change, p_holm=p_holm, beyond_noise=clear_of_zero and significant))
    return found
