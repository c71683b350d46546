"""Do the 95 % intervals cover the truth? Simulated variants with known effects, measured by the shipped functions."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from safety_tax.results.statistics.fieller import FiellerSet, fieller
from safety_tax.results.statistics.paired import PairedDifference, paired_difference
from safety_tax.results.statistics.tax import assess

REPLICATIONS = 4000
MARGIN = 0.01
# Items per stratum, by the number of items: some harm categories hold one prompt only, subjects are many and small.
SAFETY_STRATA = {200: (70, 50, 40, 25, 13, 1, 1), 700: (245, 175, 140, 90, 44, 5, 1)}
UTILITY_STRATA = {1000: (20,) * 40 + (50,) * 4, 2000: (40,) * 40 + (100,) * 4}


@dataclass(frozen=True)
class Point:
    """True effects, in fractions: `gain` of safety, `loss` of utility; and the numbers of items."""

    gain: float
    loss: float
    prompts: int
    questions: int


POINTS = [
    Point(gain, loss, prompts, questions)
    for gain, loss in ((0.0, 0.0), (0.05, 0.01), (0.20, 0.02))
    for prompts, questions in ((200, 1000), (700, 2000))
]


@dataclass(frozen=True)
class Population:
    """The stratum of each item, and the item's probabilities of a flip up and of a flip down."""

    groups: npt.NDArray[np.int64]
    up: npt.NDArray[np.float64]
    down: npt.NDArray[np.float64]

    @property
    def effect(self) -> float:
        return float((self.up - self.down).mean())


def population(strata: tuple[int, ...], effect: float, churn: float) -> Population:
    """Strata that differ: the effect grows from the first to the last, the flips that cancel out (`churn`) shrink."""
    groups = np.repeat(np.arange(len(strata)), strata)
    slope = groups - groups.mean()
    slope = slope / np.abs(slope).max()
    flips = churn * (1 - slope / 2) / 2
    return Population(groups, up=flips + effect * (1 + slope), down=flips)


def measured(items: Population, generator: np.random.Generator) -> PairedDifference:
    chance = generator.random(items.groups.size)
    up, down = chance < items.up, chance >= 1 - items.down
    before = np.where(up | down, down, generator.random(items.groups.size) < 0.5)
    return paired_difference(before, np.where(up | down, up, before), items.groups)


def contains(found: FiellerSet, ratio: float) -> bool:
    if found.kind == "everything":
        return True
    lower = -np.inf if found.lower is None else found.lower
    upper = np.inf if found.upper is None else found.upper
    return lower <= ratio <= upper if found.kind == "bounded" else not lower < ratio < upper


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_intervals_cover_the_truth_and_the_null_has_no_tax(point: Point) -> None:
    generator = np.random.default_rng(20251122)
    # Discordance .10 beyond the shift in safety, .10 in all in utility. A flip up is a gain there and a loss here.
    safety = population(SAFETY_STRATA[point.prompts], point.gain, churn=0.10)
    utility = population(UTILITY_STRATA[point.questions], point.loss, churn=0.10 - point.loss)
    assert safety.effect == pytest.approx(point.gain)
    assert utility.effect == pytest.approx(point.loss)
    # Without effects every ratio fits, so that any one must be covered.
    ratio = point.loss / point.gain if point.gain else 0.25

    hits, statuses = Counter[str](), Counter[str]()
    for _ in range(REPLICATIONS):
        gain, loss = measured(safety, generator), measured(utility, generator)
        tax = fieller(loss.estimate, loss.variance, gain.estimate, gain.variance, 0.95)
        hits["gain"] += gain.lower <= point.gain <= gain.upper
        hits["loss"] += loss.lower <= point.loss <= loss.upper
        hits["tax"] += contains(tax, ratio)
        statuses[assess(gain, loss, MARGIN).status] += 1

    coverage = {name: count / REPLICATIONS for name, count in hits.items()}
    print(point, coverage, dict(statuses))
    assert all(0.935 <= share <= 0.965 for share in coverage.values()), coverage
    if point.gain == 0:
        assert statuses["tradeoff"] + statuses["free"] <= 0.05 * REPLICATIONS
