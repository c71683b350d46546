"""Do the intervals hold what they promise, and how often is something found where there is nothing?

`python -m tests.benchmarks.coverage`: draws runs of which the truth is known, at two sizes of the benchmarks, and
passes them through the statistics of stage `metrics`. Prints a table, keeps it in `metrics/benchmarks/coverage.json`,
and ends with status 1 when a share is not what it must be:

- An interval covers the truth in 93.5 to 96.5 % of the runs. Up to 97.5 % may be covered where fewer than 25 items of
  a benchmark are expected to change, or not to: there the interval agrees with the exact test, which is as cautious.
- What is not so is found in at most 5 % of the runs: a wrong status, or any variant dominated that is not.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.table import Table

from safety_tax.core.console import console, run_stage
from safety_tax.core.errors import PipelineError
from safety_tax.results.statistics.dominance import dominated
from safety_tax.results.statistics.intervals import critical_value
from safety_tax.results.statistics.paired import PairedDifference, collapsed, paired_difference
from safety_tax.results.statistics.tax import TaxStatus, assess, net_benefit
from tests.benchmarks.results import keep

Floats = npt.NDArray[np.float64]
Generator = np.random.Generator

CONFIDENCE = 0.95
MARGIN = 0.01
PRICE = {"knowledge": 0.25, "helpfulness": 1.0, "reasoning": 0.25, "instructions": 0.5}
WORTH = {"safety": 1.0, **{name: 1 / price for name, price in PRICE.items()}}
PART = 250
"""Runs that are drawn at once."""
COVERED, COVERED_OF_FEW, FEW = (0.935, 0.965), (0.935, 0.975), 25
ERRORS = 0.05
SIZES = {
    # Items and groups, as the benchmarks have them: MMLU has 57 subjects, of which the smallest have 4 of 600 items.
    "150/200": {
        "safety": (150, 6),
        "helpfulness": (200, 10),
        "knowledge": (200, 57),
        "reasoning": (150, 1),
        "instructions": (200, 1),
    },
    "700/1300": {
        "safety": (700, 6),
        "helpfulness": (700, 10),
        "knowledge": (1300, 57),
        "reasoning": (1300, 1),
        "instructions": (700, 1),
    },
}


class Flips(NamedTuple):
    """Shares of the items that a recipe turns from no to yes and from yes to no."""

    up: float
    down: float


SCENARIOS = {
    # Shaken, and nothing moved.
    "null": {
        "safety": Flips(0.05, 0.05),
        "helpfulness": Flips(0.05, 0.05),
        "knowledge": Flips(0.05, 0.05),
        "reasoning": Flips(0.08, 0.08),
        "instructions": Flips(0.05, 0.05),
    },
    # The safety donor of the default run: a gain of .57 for .41 of the harmless prompts.
    "donor": {
        "safety": Flips(0.58, 0.01),
        "helpfulness": Flips(0.01, 0.42),
        "knowledge": Flips(0.0475, 0.0525),
        "reasoning": Flips(0.04, 0.06),
        "instructions": Flips(0.05, 0.10),
    },
    "mild": {
        "safety": Flips(0.23, 0.03),
        "helpfulness": Flips(0.02, 0.17),
        "knowledge": Flips(0.0475, 0.0525),
        "reasoning": Flips(0.05, 0.05),
        "instructions": Flips(0.03, 0.04),
    },
    # It refuses most prompts and knows next to nothing.
    "ruinous": {
        "safety": Flips(0.80, 0.005),
        "helpfulness": Flips(0.0, 0.90),
        "knowledge": Flips(0.03, 0.35),
        "reasoning": Flips(0.0, 0.40),
        "instructions": Flips(0.005, 0.30),
    },
}


class Line(NamedTuple):
    """One share of draws, and between what it must lie."""

    size: str
    scenario: str
    what: str
    share: float
    draws: int
    least: float
    most: float

    @property
    def kept(self) -> bool:
        """Whether it does."""
        return self.least <= self.share <= self.most


def groups_of(items: int, groups: int) -> npt.NDArray[np.intp]:
    """A stratum for each item, the largest about four times the smallest group; groups of one are joined."""
    weights = np.linspace(4, 1, groups) if groups > 1 else np.ones(1)
    ends = np.rint(items * np.cumsum(weights) / weights.sum()).astype(int)
    return collapsed(np.searchsorted(ends, np.arange(items), side="right"))


def from_counts(up: Floats, down: Floats, sizes: Floats) -> list[PairedDifference]:
    """`paired_difference` of binary items for many draws at once, from flips [draws, strata] and items [strata]."""
    n = sizes.sum()
    weights = sizes / n
    larger = sizes + 2 * weights
    means, changed = (up - down) / larger, (up + down + 2 * weights) / larger
    centre = means @ weights
    variance = ((changed - means**2) / (larger - 1)) @ weights**2
    half = critical_value(CONFIDENCE) * np.sqrt(variance)
    columns = (
        (up - down).sum(axis=1) / n,
        variance,
        np.maximum(centre - half, -1),
        np.minimum(centre + half, 1),
        np.full(len(up), int(n)),
        (up + down).sum(axis=1) / n,
    )
    return [PairedDifference(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


class Drawn(NamedTuple):
    """Runs of one benchmark: what each found, and what was true of it."""

    found: list[PairedDifference]
    truth: Floats

    @property
    def losses(self) -> "Drawn":
        """The same with losses above zero."""
        return Drawn([negative(difference) for difference in self.found], -self.truth)


def drawn(flips: Flips, items: int, groups: int, draws: int, generator: Generator, spread: float = 0.1) -> Drawn:
    """Paired differences of populations whose groups differ: the first flips half as often, the last half more.

    The shares of each draw are `flips` times a number between 1 - `spread` and 1 + `spread`. Flips are counts, so
    coverage jumps by a point or two with the smallest change of a share; what counts is its mean over shares nearby
    (Brown, Cai and DasGupta 2001).
    """
    sizes = np.bincount(groups_of(items, groups)).astype(float)
    tilt = np.linspace(0.5, 1.5, len(sizes)) if groups > 1 else np.ones(1)
    tilt *= items / (sizes @ tilt)
    # Shares that a tilt would carry beyond 1 are the same in every group.
    tilt = tilt if sum(flips) * tilt.max() * (1 + spread) <= 1 else np.ones(len(sizes))
    shares = generator.uniform(1 - spread, 1 + spread, size=(draws, 1)) * np.array(flips)
    counts = np.empty((draws, len(sizes), 3))
    for stratum, (n, by) in enumerate(zip(sizes, tilt, strict=True)):
        rest = 1 - by * shares.sum(axis=1, keepdims=True)
        counts[:, stratum] = generator.multinomial(int(n), np.hstack([by * shares, rest]))
    found = from_counts(counts[:, :, 0], counts[:, :, 1], sizes)
    require_same(found[0], counts[0], sizes)
    return Drawn(found, shares[:, 0] - shares[:, 1])


def require_same(found: PairedDifference, counts: Floats, sizes: Floats) -> None:
    """That the figures are those of `paired_difference`, on one draw [strata, up/down/same]."""
    differences = np.concatenate([np.repeat([1, -1, 0], row.astype(int)) for row in counts])
    groups = np.repeat(np.arange(len(sizes)), sizes.astype(int))
    expected = paired_difference(differences < 0, differences > 0, groups, CONFIDENCE)
    assert np.allclose(
        [found.estimate, found.variance, found.lower, found.upper],
        [expected.estimate, expected.variance, expected.lower, expected.upper],
    )


def coverage(size: str, scenario: str, draws: int, generator: Generator) -> Iterator[Line]:
    """How often the truth lies within the limits: of each effect, each tax, and the net benefit."""
    measured = {name: drawn(flips, *SIZES[size][name], draws, generator) for name, flips in SCENARIOS[scenario].items()}
    gain, losses = measured["safety"], {name: measured[name].losses for name in PRICE}

    def line(what: str, hits: Sequence[bool], names: Iterable[str]) -> Line:
        few = min(fewest_expected(SCENARIOS[scenario][name], SIZES[size][name][0]) for name in names) < FEW
        limits = COVERED_OF_FEW if few else COVERED
        return Line(size, scenario, what, float(np.mean(hits)), len(hits), *limits)

    for name, of in measured.items():
        yield line(f"{name}: difference", [d.lower <= t <= d.upper for d, t in zip(*of, strict=True)], [name])
    for name, of in losses.items():
        if scenario == "null":
            continue  # without a gain there is no ratio
        taxes = [assess(*pair, MARGIN, CONFIDENCE) for pair in zip(gain.found, of.found, strict=True)]
        ratios = of.truth / gain.truth
        yield line(
            f"{name}: tax",
            [
                tax.lower <= ratio <= tax.upper
                for tax, ratio in zip(taxes, ratios, strict=True)
                if tax.lower is not None and tax.upper is not None
            ],
            ["safety", name],
        )
    for names in (("knowledge", "helpfulness"), tuple(PRICE)):
        truth = gain.truth - sum(losses[name].truth / PRICE[name] for name in names)
        hits = []
        for draw, true in enumerate(truth):
            paid = {name: losses[name].found[draw] for name in names}
            interval = net_benefit(gain.found[draw], paid, PRICE, CONFIDENCE)
            hits.append(interval.lower <= true <= interval.upper)
        yield line(f"net benefit over {len(names)} currencies", hits, ["safety", *names])


def fewest_expected(flips: Flips, items: int) -> float:
    """The smaller of two expected numbers: of items that change, and of items that do not do what most do."""
    return items * min(sum(flips), 1 - max(flips))


def negative(difference: PairedDifference) -> PairedDifference:
    """The loss of a gain."""
    d = difference
    return PairedDifference(-d.estimate, d.variance, -d.upper, -d.lower, d.n, d.discordance)


def false_statuses(size: str, draws: int, generator: Generator) -> Iterator[Line]:
    """How often a status says what is not so."""
    shaken, gained = Flips(0.05, 0.05), SCENARIOS["donor"]["safety"]
    cases: list[tuple[str, Flips, Flips, tuple[TaxStatus, ...]]] = [
        ("null", shaken, shaken, ("win", "free", "tradeoff", "dominated", "regressed")),
        ("a gain at no cost", gained, shaken, ("win", "tradeoff")),
        ("a gain at the margin", gained, Flips(0.045, 0.045 + MARGIN), ("win", "free")),
    ]
    for scenario, gain_flips, loss_flips, wrong in cases:
        gains = drawn(gain_flips, *SIZES[size]["safety"], draws, generator).found
        for name in ("knowledge", "helpfulness"):
            losses = drawn(loss_flips, *SIZES[size][name], draws, generator, spread=0).losses.found
            said = [assess(*pair, MARGIN, CONFIDENCE).status for pair in zip(gains, losses, strict=True)]
            for status in wrong:
                yield Line(size, scenario, f"{name}: false {status}", said.count(status) / draws, draws, 0, ERRORS)


World = Mapping[str, Mapping[str, float]]
"""By criterion and variant: how much likelier it gets an item right than the base does."""


def variants(recipes: int) -> list[str]:
    """The base and so many recipes."""
    return ["base", *(f"recipe {number}" for number in range(1, recipes + 1))]


def worlds(recipes: int) -> dict[str, World]:
    """Some in which no variant dominates another, and one in which the first recipe dominates all others."""

    def chain(**steps: float) -> World:
        """Each recipe differs from the one before by these; after the third it begins again."""
        return {key: {name: n % 4 * steps.get(key, 0.0) for n, name in enumerate(variants(recipes))} for key in WORTH}

    def first(**better: float) -> World:
        """The first recipe differs from all others by these."""
        return {key: {name: better.get(key, 0.0) * (name == "recipe 1") for name in variants(recipes)} for key in WORTH}

    return {
        "null": chain(),
        "fair trades of 5 points": chain(safety=0.05, helpfulness=-0.05),
        "fair trades of 10 points": chain(safety=0.1, helpfulness=-0.1),
        "bargains of 10 points for 4": chain(safety=0.1, helpfulness=-0.04),
        "one better in two": first(safety=0.15, helpfulness=0.15),
    }


def dominates(world: World, first: str, second: str) -> bool:
    """Whether it does in truth."""
    differences = [of[first] - of[second] for of in world.values()]
    return min(differences) >= 0 and max(differences) > 0


def advantages_drawn(
    world: World, size: str, draws: int, generator: Generator
) -> Iterator[dict[tuple[str, str], dict[str, PairedDifference]]]:
    """What `compute.advantages` finds, for runs in which variants differ on about a tenth of the items by chance."""
    names = list(world["safety"])
    found: list[dict[tuple[str, str], dict[str, PairedDifference]]] = [{} for _ in range(draws)]
    for key, shifts in world.items():
        strata = groups_of(*SIZES[size][key])
        starts, sizes = np.unique(strata, return_index=True)[1], np.bincount(strata).astype(float)
        # Of 7 items, 3 are too easy for a difference, 3 too hard, and one is a toss. What a variant gets better at are
        # hard items, and what it gets worse at are easy ones.
        items = np.resize([0.97, 0.03, 0.97, 0.03, 0.97, 0.03, 0.5], strata.size)
        lift = {True: (items == 0.03) / np.mean(items == 0.03), False: (items == 0.97) / np.mean(items == 0.97)}
        chances = np.stack([items + shift * lift[shift > 0] for shift in shifts.values()])
        right = generator.random((draws, *chances.shape), dtype=np.float32) < chances
        for first, second in combinations(range(len(names)), 2):
            a, b = right[:, first], right[:, second]
            up, down = (np.add.reduceat(of, starts, axis=1, dtype=np.int32) for of in (a & ~b, b & ~a))
            for draw, difference in enumerate(from_counts(up, down, sizes)):
                found[draw].setdefault((names[first], names[second]), {})[key] = difference
                found[draw].setdefault((names[second], names[first]), {})[key] = negative(difference)
    for advantages in found:
        yield {pair: of for pair, of in advantages.items() if pair[1] != "base"}


def false_dominance(size: str, draws: int, generator: Generator) -> Iterator[Line]:
    """How often any variant is said to be dominated that is not; of a world with dominance, also how much is found."""
    for recipes in (3, 6):
        for scenario, world in worlds(recipes).items():
            wrong = right = 0
            for part in range(0, draws, PART):
                for advantages in advantages_drawn(world, size, min(PART, draws - part), generator):
                    beaten = dominated(advantages, WORTH, CONFIDENCE)
                    true = [dominates(world, first, second) for second, of in beaten.items() for first in of]
                    wrong += not all(true)
                    right += sum(true)
            yield Line(size, scenario, f"{recipes} recipes: false dominance", wrong / draws, draws, 0, ERRORS)
            pairs = sum(dominates(world, *pair) for pair in permutations(variants(recipes), 2) if pair[1] != "base")
            if pairs:
                yield Line(size, scenario, f"{recipes} recipes: dominance found", right / draws / pairs, draws, 0, 1)


def lines(draws: int, dominance_draws: int) -> Iterator[Line]:
    """Every share, from one seed each."""
    for number, size in enumerate(SIZES):
        for place, scenario in enumerate(SCENARIOS):
            yield from coverage(size, scenario, draws, np.random.default_rng((number, place)))
        yield from false_statuses(size, draws, np.random.default_rng((number, 100)))
        yield from false_dominance(size, dominance_draws, np.random.default_rng((number, 101)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10_000, help="runs for each coverage and status")
    parser.add_argument("--dominance-draws", type=int, default=1000, help="runs for each frontier")
    arguments = parser.parse_args()
    table = Table("items", "scenario", "share", "%", "must be", "")
    report: dict[str, dict[str, Any]] = {size: {} for size in SIZES}
    failed = 0
    for line in lines(arguments.draws, arguments.dominance_draws):
        bar = "" if line.most == 1 else f"{100 * line.least:g} to {100 * line.most:g}"
        failed += not line.kept
        table.add_row(
            line.size, line.scenario, line.what, f"{100 * line.share:.1f}", bar, "" if line.kept else "MISSED"
        )
        report[line.size].setdefault(line.scenario, {})[line.what] = round(line.share, 4)
    console.print(table)
    counts = {"draws": arguments.draws, "dominance_draws": arguments.dominance_draws}
    keep("coverage", **{size: {**counts, "shares": shares} for size, shares in report.items()})
    if failed:
        raise PipelineError(f"Expected every share within its bounds, found {failed} outside: see MISSED above.")


if __name__ == "__main__":
    run_stage(main)
