"""Differences between two variants on the same items, and their tests."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from safety_tax.core.errors import PipelineError
from safety_tax.results.statistics.intervals import critical_value

Floats = npt.NDArray[np.float64]
Strata = npt.NDArray[np.intp]
Test = TypeVar("Test", bound=Hashable)
Groups = Sequence[str] | npt.NDArray[np.generic]


@dataclass(frozen=True)
class PairedDifference:
    """Mean of after − before over items, in the unit of the items.

    For binary items `variance` and the limits carry the plus-count adjustment of `paired_difference`, and the
    limits are centred a little nearer to zero than `estimate`, by the factor n / (n + 2).
    """

    estimate: float
    variance: float
    lower: float
    upper: float
    n: int
    discordance: float
    """Share of the items on which the two variants differ."""

    @property
    def centre(self) -> float:
        """What the limits lie around: `estimate`, for binary items nearer to zero by the factor n / (n + 2)."""
        if self.lower == -1 or self.upper == 1:  # binary, and cut off at what is possible
            return self.estimate * self.n / (self.n + 2)
        return (self.lower + self.upper) / 2


def paired_difference(
    before: npt.ArrayLike, after: npt.ArrayLike, groups: Groups, confidence: float = 0.95
) -> PairedDifference:
    """The mean of after − before, stratified by group: sum of (n_g/n)² · s_g²/n_g (Cochran 1977, section 5.4).

    The weights n_g/n are proportional, so the estimate is the plain mean. `groups` names the stratum of each item;
    `collapsed` joins those that are too small.

    Binary items (all 0 or 1) get the interval of Bonett and Price (2012): two items are added, one that flips up and
    one that flips down, before the mean and variance are taken. Fagerland, Lydersen and Laake (2014) recommend it.
    Without it, variants that differ on no item, or on three of a thousand, would get a variance of zero or far too
    small, and an interval that claims certainty. Here the two items are spread over the strata by their weights, and
    each stratum's variance is the unbiased one (with n − 1): at 17 questions a subject the plain one is 6 % too small.

    Other items (probabilities, bits per byte) get Student's t with n minus the number of strata degrees of freedom;
    there, differences that are all equal do give an interval of width zero.

    Raises PipelineError on no items, on arrays of unequal length, on a value that is not finite, and on non-binary
    items that leave no degree of freedom.
    """
    first, second = _pair(before, after, len(groups))
    differences = second - first
    strata = collapsed(groups)
    if _binary(first, second):
        centre, variance = _adjusted(differences, strata)
        half = critical_value(confidence) * math.sqrt(variance)
        lower, upper = max(centre - half, -1.0), min(centre + half, 1.0)
    else:
        centre, variance = float(differences.mean()), _stratified_variance(differences, strata)
        freedom = differences.size - int(strata.max()) - 1
        half = float(stats.t.ppf(0.5 + confidence / 2, freedom)) * math.sqrt(variance)
        lower, upper = centre - half, centre + half
    return PairedDifference(
        estimate=float(differences.mean()),
        variance=variance,
        lower=lower,
        upper=upper,
        n=differences.size,
        discordance=float(np.count_nonzero(differences) / differences.size),
    )


def mcnemar_exact(before: npt.ArrayLike, after: npt.ArrayLike) -> float:
    """Two-sided p-value of the exact McNemar test (McNemar 1947): are flips up and flips down equally likely?

    1 when nothing flipped. Raises PipelineError on no items, on arrays of unequal length and on values but 0 and 1.
    """
    first, second = _pair(before, after, np.size(before))
    if not _binary(first, second):
        raise PipelineError("Expected outcomes of 0 or 1 for McNemar's test, found others; use the paired interval.")
    up, down = int(np.count_nonzero(first < second)), int(np.count_nonzero(first > second))
    # The test looks at the two discordant cells only.
    return float(mcnemar([[0, up], [down, 0]], exact=True).pvalue)


def holm(p_values: Mapping[Test, float]) -> dict[Test, float]:
    """Holm's step-down correction (Holm 1979) over a family of tests, under the same names.

    Raises PipelineError when a p-value is outside [0, 1].
    """
    for name, value in p_values.items():
        if not 0 <= value <= 1:
            raise PipelineError(f"Expected p-values in [0, 1], found {value} for {name!r}; repair its test.")
    # Not statsmodels' `multipletests`: it collects garbage on each call, 0.1 s in a process that holds models.
    corrected: dict[Test, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}


def collapsed(groups: Groups) -> Strata:
    """Stratum number of each item, 0 to the number of strata − 1, at least two items in each where there are two.

    A variance needs two items, so groups of one are joined to one stratum (Cochran 1977, section 5A.12); if that
    holds one item still, it goes to the largest group.
    """
    _, strata, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    alone = counts[strata] < 2
    if not alone.any() or strata.size < 2:
        return strata
    strata[alone] = counts.argmax() if alone.sum() == 1 else counts.size
    return np.unique(strata, return_inverse=True)[1]


def _pair(before: npt.ArrayLike, after: npt.ArrayLike, groups: int) -> tuple[Floats, Floats]:
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if not first.shape == second.shape == (groups,):
        raise PipelineError(
            f"Expected the same items on both sides of a paired comparison, found {first.size} before, {second.size} "
            f"after and {groups} groups; join the two variants by item id first."
        )
    if not groups:
        raise PipelineError("Expected at least one item to compare on, found none; check that both variants ran.")
    for side, values in (("before", first), ("after", second)):
        if not np.isfinite(values).all():
            place = int(np.flatnonzero(~np.isfinite(values))[0])
            raise PipelineError(
                f"Expected finite values, found {values[place]} at item {place} of {groups} on the side `{side}`; "
                "repair the stage that wrote it."
            )
    return first, second


def _binary(first: Floats, second: Floats) -> bool:
    return bool((((first == 0) | (first == 1)) & ((second == 0) | (second == 1))).all())


def _adjusted(differences: Floats, strata: Strata) -> tuple[float, float]:
    """Centre and variance with two items added, one +1 and one −1, spread over the strata by weight."""
    counts = np.bincount(strata)
    weights = counts / differences.size
    sizes = counts + 2 * weights
    means = np.bincount(strata, differences) / sizes
    changed = (np.bincount(strata, np.abs(differences)) + 2 * weights) / sizes
    variances = (changed - means**2) * sizes / (sizes - 1)
    return float(weights @ means), float(weights**2 @ (variances / sizes))


def _stratified_variance(differences: Floats, strata: Strata) -> float:
    counts = np.bincount(strata)
    if counts.min() < 2:
        raise PipelineError(
            f"Expected at least two items for the variance of a difference, found {differences.size}; measure more."
        )
    means = np.bincount(strata, differences) / counts
    variances = np.bincount(strata, (differences - means[strata]) ** 2) / (counts - 1)
    return float((counts / differences.size) ** 2 @ (variances / counts))
