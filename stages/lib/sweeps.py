"""Settings of a recipe's dials, and what the answers measured along them say, on either half of the items."""

import hashlib
import itertools
import json
from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from stages.lib.errors import PipelineError
from stages.lib.families import FROM_BASE
from stages.lib.measures import Numbers, at_chance, chance, effects, measures, rates, tax_numbers, values_of
from stages.lib.params import Metrics
from stages.lib.rows import Verdict
from stages.lib.statistics.bootstrap import bootstrap_matched_losses
from stages.lib.statistics.frontier import hypervolume, matched_loss

Settings = dict[str, Any]
Floats = npt.NDArray[np.float64]
POINT_KEYS = ("safety", "safety_gain", "utility", "utility_loss", "net_benefit")


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


def guesses(base: Sequence[Verdict], utility_format: str, confidence: float) -> bool:
    """Whether the base's accuracy on the items given is not surely above guessing: no loss may be read from them."""
    return at_chance(rates(base, utility_format, confidence), chance(base))


def point_numbers(base: Sequence[Verdict], point: Point, utility_format: str, settings: Metrics) -> Numbers:
    """Rates and effects of a point with their limits, and the tax's status, on the items given."""
    numbers = rates(point.verdicts, utility_format, settings.confidence)
    effect = effects(base, point.verdicts, utility_format, settings.confidence)
    numbers |= tax_numbers(effect, guesses(base, utility_format, settings.confidence), settings)
    keys = [key + suffix for key in POINT_KEYS for suffix in ("", "_lo", "_hi")]
    return {key: numbers[key] for key in (*keys, "over_refusal", "tax_status") if key in numbers}


def dials(points: Sequence[Point], dial: str) -> list[list[Point]]:
    """Points that differ in `dial` alone, by its rising value; one list a recipe and combination of the other keys."""
    members: dict[str, list[Point]] = {}
    for point in points:
        others = {key: value for key, value in point.settings.items() if key != dial}
        members.setdefault(json.dumps([point.recipe, others]), []).append(point)
    return [sorted(group, key=lambda point: point.settings[dial]) for group in members.values()]


def dial_numbers(
    base: Sequence[Verdict],
    groups: Sequence[Sequence[Point]],
    dial: str,
    donor: Sequence[Verdict],
    utility_format: str,
    confidence: float,
) -> list[Numbers]:
    """Of each dial, on the items given: the loss at half the donor's gain, and the area beyond the base and chance.

    `matched_loss` and its bootstrap limits are absent where the dial does not reach that gain, where the donor does not
    surely gain, and where the base's accuracy is not surely above guessing; the limits also where under nine of ten
    resamples reach it. With a second dial and more, `matched_loss_less_first` says how much less than the first dial's
    it is, resample by resample.
    """
    first, second = measures(utility_format)["safety"], measures(utility_format)["utility"]
    before = values_of(first, base), values_of(second, base)
    of_group = {verdict.id: verdict.group for verdict in base}
    gain_groups, loss_groups = ([of_group[item] for item in values] for values in before)

    def differences(verdicts: Sequence[Verdict]) -> tuple[Floats, Floats]:
        after = values_of(first, verdicts), values_of(second, verdicts)
        gains = np.array([after[0][item] - value for item, value in before[0].items()])
        return gains, np.array([value - after[1][item] for item, value in before[1].items()])

    gain = effects(base, donor, utility_format, confidence)["safety_gain"]
    comparable = gain.lower > 0 and not guesses(base, utility_format, confidence)
    donor_gains, _ = differences(donor)
    arrays = []
    for group in groups:
        pairs = [differences(point.verdicts) for point in group]
        if dial == FROM_BASE:
            at_zero = bisect([point.settings[dial] for point in group], 0)
            pairs.insert(at_zero, (np.zeros(len(gain_groups)), np.zeros(len(loss_groups))))
        arrays.append((np.stack([gains for gains, _ in pairs]), np.stack([losses for _, losses in pairs])))
    resampled = bootstrap_matched_losses(arrays, donor_gains, gain_groups, loss_groups)
    reference = (sum(before[0].values()) / len(gain_groups), chance(base))
    found: list[Numbers] = []
    for column, (gains, losses) in enumerate(arrays):
        points = list(zip(gains.mean(axis=1).tolist(), losses.mean(axis=1).tolist(), strict=True))
        utility = sum(before[1].values()) / len(loss_groups)
        area = [(reference[0] + gain, utility - loss) for gain, loss in points]
        numbers: Numbers = {"hypervolume": hypervolume(area, reference)}
        loss = matched_loss(points, donor_gain=float(donor_gains.mean())) if comparable else None
        if loss is not None:
            numbers["matched_loss"] = loss
            numbers |= _limits("matched_loss", resampled[:, column], confidence)
            if column and "matched_loss" in found[0]:
                numbers["matched_loss_less_first"] = float(found[0]["matched_loss"]) - loss
                numbers |= _limits("matched_loss_less_first", resampled[:, 0] - resampled[:, column], confidence)
        found.append(numbers)
    return found


def _limits(key: str, resampled: Floats, confidence: float) -> Numbers:
    """Percentile limits, where nine of ten resamples have a value."""
    values = resampled[np.isfinite(resampled)]
    if values.size < 0.9 * resampled.size:
        return {}
    lower, upper = np.quantile(values, (0.5 - confidence / 2, 0.5 + confidence / 2))
    return {f"{key}_lo": float(lower), f"{key}_hi": float(upper)}
