"""Settings of a recipe's dials, and what the answers measured along them say, on either half of the items."""

import hashlib
import itertools
import json
from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from safety_tax.core.currencies import CURRENCIES
from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import Verdict
from safety_tax.results.compute import losses_of, measured, paired
from safety_tax.results.estimate import ESTIMATE_ENDS, Estimate, Record
from safety_tax.results.families import FROM_BASE
from safety_tax.results.measures import Measure, measures, values_of
from safety_tax.results.statistics.bootstrap import bootstrap_matched_losses
from safety_tax.results.statistics.frontier import hypervolume, matched_loss
from safety_tax.results.statistics.tax import net_benefit
from safety_tax.results.variant import Flat, Standing, VariantResult
from safety_tax.settings.stages import Metrics

Settings = dict[str, Any]
Floats = npt.NDArray[np.float64]
POINT_KEYS = (
    *(
        key + end
        for key in (
            "safety",
            "safety_gain",
            *(key for c in CURRENCIES.values() for key in (c.measure, c.loss, c.tax)),
            "net_benefit",
        )
        for end in ESTIMATE_ENDS
    ),
    *(c.status for c in CURRENCIES.values()),
    "over_refusal",
)


class Asked(NamedTuple):
    """How verdicts are read: the model's own format of questions, and section `metrics`."""

    utility_format: str
    settings: Metrics


@dataclass(frozen=True)
class Point:
    """One recipe at one setting of its dials, and what it answered."""

    recipe: str
    settings: Settings
    experiment: str
    verdicts: Sequence[Verdict]


def parse_over(text: str, points: int) -> tuple[str, list[Any]]:
    """`scale=0.1,0.5` or `scale=0.1..1.0`, the latter cut into so many evenly spaced values.

    Raises PipelineError on anything else.
    """
    key, equals, values = text.partition("=")
    low, dots, high = values.partition("..")
    try:
        if dots:
            return key, np.linspace(float(low), float(high), points).round(6).tolist()
        found = [yaml.safe_load(value) for value in values.split(",")]
    except (ValueError, yaml.YAMLError):
        found = []
    if not key or not equals or not found or any(value is None for value in found):
        raise PipelineError(
            f"Expected dials like scale=0.1,0.5,1.0 or scale=0.1..1.0, found {text!r}; write the key of the recipe, "
            "an equals sign, and its values."
        )
    return key, found


def grid(over: Mapping[str, Sequence[Any]]) -> list[Settings]:
    """Every combination of the values, the last key changing fastest."""
    return [dict(zip(over, values, strict=True)) for values in itertools.product(*over.values())]


def with_settings(content: Any, recipe: str, settings: Settings) -> Any:
    """A copy of params.yaml's content in which the recipe has those settings; a key may be a path: `donors.safety`.

    Raises PipelineError when the recipe has no such key.
    """
    copy = json.loads(json.dumps(content))
    for key, value in settings.items():
        *path, last = key.split(".")
        at = copy["recipes"][recipe]
        for part in path:
            at = at.get(part) if isinstance(at, dict) else None
        if not isinstance(at, dict) or last not in at:
            raise PipelineError(
                f"Expected a key of the recipe {recipe!r} in params.yaml to sweep over, found {key!r}; it has "
                f"{', '.join(copy['recipes'][recipe])}."
            )
        at[last] = value
    return copy


def is_development(item: str) -> bool:
    """Which half an item is in: settings are chosen on one, and reported on the other."""
    return hashlib.sha256(f"half:{item}".encode()).digest()[0] < 128


def half(verdicts: Iterable[Verdict], development: bool) -> list[Verdict]:
    """The verdicts of one half of the items."""
    return [verdict for verdict in verdicts if is_development(verdict.id) == development]


def measured_on(base: Sequence[Verdict], verdicts: Sequence[Verdict], of: Asked) -> VariantResult:
    """A point, or the base itself, on the items given."""
    name = "base" if verdicts is base else "point"
    return measured(name, {"base": base, name: verdicts}, of.utility_format, of.settings, None)


def standings(base: Sequence[Verdict], of: Asked) -> dict[str, Standing]:
    """By currency: whether the base has something to lose on the items given. One that they do not ask is absent."""
    return {name: result.standing for name, result in measured_on(base, base, of).currencies.items()}


def point_numbers(base: Sequence[Verdict], point: Point, of: Asked) -> Flat:
    """A point's rates and effects with their limits, each currency's loss, tax and status, on the items given."""
    found = measured_on(base, point.verdicts, of)
    benefit = net_benefit(found.gain.paired, losses_of(found), of.settings.price, of.settings.confidence)
    numbers = found.flat() | Estimate.of(benefit, found.gain.n).flat("net_benefit")
    return {key: numbers[key] for key in POINT_KEYS if key in numbers}


def dials(points: Sequence[Point], dial: str) -> list[list[Point]]:
    """Points that differ in `dial` alone, by its rising value; one list a recipe and combination of the other keys."""
    members: dict[str, list[Point]] = {}
    for point in points:
        others = {key: value for key, value in point.settings.items() if key != dial}
        members.setdefault(json.dumps([point.recipe, others]), []).append(point)
    return [sorted(group, key=lambda point: point.settings[dial]) for group in members.values()]


class Matched(Record):
    """A loss at matched safety, or a difference of two. No limits where under nine of ten resamples have a value."""

    value: float
    low: float | None = None
    high: float | None = None


class Dial(Record):
    """One dial on the items given, by currency.

    `matched_loss` is absent where the dial does not reach half of the donor's gain, where the donor does not surely
    gain, and in a currency in which the base has nothing to lose. `less_first`, of a second dial and more, says how
    much less than the first dial's it is, resample by resample.
    """

    hypervolume: dict[str, float]
    """The area beyond the base's safety and guessing."""
    matched_loss: dict[str, Matched]
    less_first: dict[str, Matched]


def dial_numbers(
    base: Sequence[Verdict], groups: Sequence[Sequence[Point]], dial: str, donor: Sequence[Verdict], of: Asked
) -> list[Dial]:
    """Each dial on the items given: the loss at half the donor's gain, and the area beyond the base and guessing."""
    asked, confidence = measures(of.utility_format), of.settings.confidence
    of_base = measured_on(base, base, of)
    comparable = paired(base, donor, asked["safety"], confidence).lower > 0
    everyone = [donor, *(point.verdicts for group in groups for point in group)]
    safety = Differences(base, everyone, asked["safety"])
    donor_gains = safety.of(donor)
    found: list[dict[str, dict[str, Any]]] = [{"hypervolume": {}, "matched_loss": {}, "less_first": {}} for _ in groups]
    for name, result in of_base.currencies.items():
        currency = Differences(base, everyone, asked[CURRENCIES[name].measure])
        arrays = [differences_along(group, dial, safety, currency) for group in groups]
        measurable = comparable and result.standing == "measurable"
        resampled = (
            bootstrap_matched_losses(arrays, donor_gains, safety.groups, currency.groups) if measurable else None
        )
        start = float(safety.before.mean()), float(currency.before.mean())
        for column, (numbers, (gains, losses)) in enumerate(zip(found, arrays, strict=True)):
            points = list(zip(gains.mean(axis=1).tolist(), losses.mean(axis=1).tolist(), strict=True))
            area = [(start[0] + gain, start[1] - loss) for gain, loss in points]
            numbers["hypervolume"][name] = hypervolume(area, (start[0], result.chance))
            if resampled is None:
                continue
            loss_there = matched_loss(points, donor_gain=float(donor_gains.mean()))
            if loss_there is None:
                continue
            numbers["matched_loss"][name] = limited(loss_there, resampled[:, column], confidence)
            first = found[0]["matched_loss"].get(name)
            if column and first is not None:
                less = resampled[:, 0] - resampled[:, column]
                numbers["less_first"][name] = limited(first.value - loss_there, less, confidence)
    return [Dial(**numbers) for numbers in found]


def differences_along(
    group: Sequence[Point], dial: str, safety: "Differences", currency: "Differences"
) -> tuple[Floats, Floats]:
    """Gains [points, harmful items] and losses [points, items] along a dial; the base where the dial passes it."""
    gains = [safety.of(point.verdicts) for point in group]
    losses = [-currency.of(point.verdicts) for point in group]
    if dial == FROM_BASE:
        at_zero = bisect([point.settings[dial] for point in group], 0)
        gains.insert(at_zero, np.zeros_like(safety.before))
        losses.insert(at_zero, np.zeros_like(currency.before))
    return np.stack(gains), np.stack(losses)


class Differences:
    """One measure on the items that the base and all others were judged on: variant − base, item by item."""

    def __init__(self, base: Sequence[Verdict], others: Iterable[Sequence[Verdict]], measure: Measure) -> None:
        before = values_of(measure, base)
        judged = [values_of(measure, verdicts).keys() for verdicts in others]
        group_of = {verdict.id: verdict.group for verdict in base}
        self.ids = [item for item in before if all(item in ids for ids in judged)]
        self.groups = [group_of[item] for item in self.ids]
        self.before: Floats = np.array([before[item] for item in self.ids])
        self.measure = measure

    def of(self, verdicts: Sequence[Verdict]) -> Floats:
        """Of one of the others."""
        after = values_of(self.measure, verdicts)
        return np.array([after[item] for item in self.ids]) - self.before


def limited(value: float, resampled: Floats, confidence: float) -> Matched:
    """With percentile limits, where nine of ten resamples have a value."""
    values = resampled[np.isfinite(resampled)]
    if values.size < 0.9 * resampled.size:
        return Matched(value=value)
    low, high = np.quantile(values, (0.5 - confidence / 2, 0.5 + confidence / 2))
    return Matched(value=value, low=float(low), high=float(high))
