"""Two Git revisions -> all that is to be said of what changed between them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safety_tax.core.errors import PipelineError
from safety_tax.core.workspace import PARAMS_FILE
from safety_tax.results.comparison.committed_rates import ModelRates, read_rates
from safety_tax.results.comparison.items import Comparison, compare, compare_rates, unshared
from safety_tax.results.comparison.revisions import Revision, VerdictsMissing, read_verdicts


@dataclass(frozen=True)
class Report:
    """All that is shown, in whatever form.

    `left_out` is one line for each reason not to compare something, `warnings` one for each setting by which the two
    sides measured differently.
    """

    before: Revision
    after: Revision
    confidence: float
    models: dict[str, Comparison]
    left_out: list[str]
    warnings: list[str]
    unpaired: str = ""
    """Why no items were paired, and what to do to have them; empty where they were."""

    @property
    def basis(self) -> str:
        """What the intervals are of."""
        return "unpaired" if self.unpaired else "paired by item"

    @property
    def remarks(self) -> list[str]:
        """One line each, for below the numbers."""
        return [*([self.unpaired] if self.unpaired else []), *self.left_out, *self.warnings]

    @property
    def level(self) -> str:
        return f"{100 * self.confidence:g} %"


def compared(before: Revision, after: Revision) -> Report:
    """Item by item or, where the verdicts of a commit cannot be had, by the numbers that Git holds.

    Raises PipelineError as `paired` does and, where the numbers are not to be had either, what hid the verdicts.
    """
    try:
        return paired(before, after)
    except VerdictsMissing as missing:
        rates = [read_rates(before), read_rates(after)]
        common = [model for model in rates[1] if model in rates[0]]
        if not common:
            raise
        return unpaired(before, after, {model: (rates[0][model], rates[1][model]) for model in common}, missing)


def unpaired(
    before: Revision, after: Revision, sides: Mapping[str, tuple[ModelRates, ModelRates]], missing: VerdictsMissing
) -> Report:
    """The committed rates of the models on both `sides`. Raises PipelineError when these are not of one kind."""
    models = {}
    for model, (first, second) in sides.items():
        for key, values in (("size", (first.size, second.size)), ("confidence", (first.confidence, second.confidence))):
            if values[0] != values[1]:
                raise PipelineError(
                    f"Expected one `{key}` behind the numbers of {model} in {before.name} and {after.name}, found "
                    f"{values[0]} and {values[1]}; run both with the same one."
                )
        models[model] = compare_rates(first.rates, second.rates, agreed_format(model, before, after), second.confidence)
    only = {
        f"only in {side.name}": [
            f"{variant} ({model})" for model, variant in side.keys if (model, variant) not in other.keys
        ]
        for side, other in ((before, after), (after, before))
    }
    left_out = [f"Not compared, {reason}: {', '.join(names)}." for reason, names in only.items() if names]
    confidence = next(iter(sides.values()))[1].confidence
    why = (
        f"Unpaired: the verdicts of {missing.revision} are not to be had here, so the numbers of metrics/detail in Git "
        f"are compared. Such intervals are wider and no flips are known. To compare item by item, {missing.step}."
    )
    return Report(before, after, confidence, models, left_out, measured_differently(before, after), why)


def paired(before: Revision, after: Revision) -> Report:
    """Everything that both sides measured. Raises PipelineError when that is nothing, or is not on the same items."""
    both = [key for key in after.keys if key in before.keys]
    first, second = read_verdicts(before, both), read_verdicts(after, both)
    common = [key for key in both if key in first and key in second]
    if not common:
        raise PipelineError(
            f"Expected a model and a variant with verdicts in both {before.name} and {after.name}, found none: of "
            f"{len(before.keys)} and {len(after.keys)} in {PARAMS_FILE} they share {len(both)}, of which {before.name} "
            f"has {len(first)} and {after.name} {len(second)}; run `dvc repro` on the side that lacks them."
        )
    for model, variant in common:
        only = unshared(first[model, variant], second[model, variant])
        if any(only):
            sizes = f" (`size` {before.size} and {after.size})" if before.size != after.size else ""
            raise PipelineError(
                f"Expected {before.name} and {after.name} to have asked {variant} of {model} the same items, found "
                f"{only[0]:,} only in {before.name} and {only[1]:,} only in {after.name}{sizes}; run both with the "
                "same `size` and the same `fetch_data`."
            )
    confidence = after.confidence or before.confidence
    if confidence is None:
        raise PipelineError(
            f"Expected `metrics.confidence` between 0 and 1 in {PARAMS_FILE} of {after.name}, found none; add it."
        )
    models = {}
    for model in dict.fromkeys(model for model, _ in common):
        keys = [key for key in common if key[0] == model]
        earlier, later = ({key[1]: of[key] for key in keys} for of in (first, second))
        models[model] = compare(earlier, later, agreed_format(model, before, after), confidence)
    reasons = {
        f"only in {before.name}": [key for key in before.keys if key not in both],
        f"only in {after.name}": [key for key in after.keys if key not in both],
        f"no verdicts in {before.name}": [key for key in both if key not in first],
        f"no verdicts in {after.name}": [key for key in both if key not in second],
        "scored on one side only": [
            (model, f"{rate} of {variant}") for model, of in models.items() for variant, rate in of.one_sided
        ],
        "items judged on one side only": [
            (model, f"{change.unpaired:,} of {change.rate} of {change.variant}")
            for model, of in models.items()
            for change in of.distinct
            if change.unpaired
        ],
    }
    left_out = [
        f"Not compared, {reason}: {', '.join(f'{what} ({model})' for model, what in keys)}."
        for reason, keys in reasons.items()
        if keys
    ]
    return Report(before, after, confidence, models, left_out, measured_differently(before, after))


def measured_differently(before: Revision, after: Revision) -> list[str]:
    """One line for each setting of params.yaml that gives rates another meaning and is not the same on both sides."""

    def shown(value: Any) -> str:
        return "absent" if value is None else json.dumps(value, ensure_ascii=False, default=str)

    return [
        f"Measured differently: `{key}` is {shown(before.meaning[key])} in {before.name} and "
        f"{shown(after.meaning[key])} in {after.name}; a change may come from that and not from the model."
        for key in before.meaning
        if key in after.meaning and before.meaning[key] != after.meaning[key]
    ]


def agreed_format(model: str, before: Revision, after: Revision) -> str:
    """What `utility` is on both sides. Raises PipelineError when they differ or neither says."""
    formats = {revision.formats[model] for revision in (before, after) if model in revision.formats}
    if len(formats) != 1:
        raise PipelineError(
            f"Expected one `utility_format` for {model} in {PARAMS_FILE} of {before.name} and {after.name}, found "
            f"{' and '.join(sorted(formats)) or 'none'}; run both sides in the same one."
        )
    return formats.pop()
