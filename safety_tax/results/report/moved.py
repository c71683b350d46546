"""What the report says of an older revision: which numbers moved, which by more than noise, and which items flipped."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from safety_tax.core.rows import Kind
from safety_tax.results.comparison.items import Change
from safety_tax.results.comparison.two_revisions import Report
from safety_tax.results.comparison.wording import HEADLINE, difference, differs_as_shown, number, p_value, sentence
from safety_tax.results.measures import measures
from safety_tax.results.report.looks import Said

NOISE = Said("≈", "may be noise", "calm", "The interval holds zero, or the test does not reject.")
REAL = {
    True: Said("▲", "better", "good", "A change for the better, by more than noise."),
    False: Said("▼", "worse", "bad", "A change for the worse, by more than noise."),
    None: Said("●", "changed", "calm", "More than noise, of a rate that is neither good nor bad."),
}


class Moved(NamedTuple):
    """One rate of one variant. `now` and `then` are the variant's places in the browser of items, −1 for none."""

    model: str
    variant: str
    rate: str
    before: str
    after: str
    difference: str
    p: str
    said: Said
    up: int
    down: int
    kind: Kind | None
    """Of its items, where they are of one."""
    now: int
    then: int


class Since(NamedTuple):
    """All of it: one sentence, the rates that people decide by, and the others that moved."""

    revision: str
    sentence: str
    headline: list[Moved]
    others: list[Moved]
    remarks: list[str]
    paired: bool


def since(report: Report, models: Sequence[str], places: Mapping[tuple[str, str, bool], int]) -> Since:
    """What moved in those `models`; `places` has (model, variant, whether it is of now) in the browser of items."""
    headline: list[Moved] = []
    others: list[Moved] = []
    real: list[str] = []
    count = 0
    for model in models:
        comparison = report.models[model]
        kinds = {rate: measure.kinds for rate, measure in measures(comparison.utility_format).items()}
        count += len(comparison.distinct)
        for change in sorted(comparison.distinct, key=lambda change: not change.beyond_noise):
            if not change.moved:
                continue
            row = _moved(model, change, kinds[change.rate], places)
            (headline if change.rate in HEADLINE else others).append(row)
            if change.beyond_noise and change.rate in HEADLINE and differs_as_shown(change):
                real.append(sentence(change) + (f" ({model})" if len(models) > 1 else ""))
    moved = len(headline) + len(others)
    if not moved:
        said = "Nothing changed on any item."
    elif real:
        said = f"More than noise: {'; '.join(real)}."
    else:
        said = "No headline number moved by more than noise."
    told = f"{said} {moved} of {count} rates moved; intervals are {report.level}, {report.basis}."
    return Since(report.before.name, told, headline, others, report.remarks, not report.unpaired)


def _moved(model: str, change: Change, kinds: tuple[Kind, ...], places: Mapping[tuple[str, str, bool], int]) -> Moved:
    return Moved(
        model=model,
        variant=change.variant,
        rate=change.rate.replace("_", " "),
        before=number(change, change.before).replace("-", "−"),
        after=number(change, change.after).replace("-", "−"),
        difference=difference(change).replace("-", "−"),
        p=p_value(change),
        said=REAL[change.better] if change.beyond_noise else NOISE,
        up=len(change.up),
        down=len(change.down),
        kind=kinds[0] if len(kinds) == 1 else None,
        now=places.get((model, change.variant, True), -1),
        then=places.get((model, change.variant, False), -1),
    )
