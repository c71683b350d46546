"""What the report's page shows of one model, ready for its templates: words and numbers as people read them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import yaml
from markupsafe import Markup

from safety_tax.core.currencies import CURRENCIES
from safety_tax.results.estimate import Estimate, fixed, shown
from safety_tax.results.report.looks import PLACES, STATUSES, Said, Tone, arrow_of, look_of, opposite, tone_of
from safety_tax.results.report.markdown import inline
from safety_tax.results.variant import CurrencyResult, ModelResults, VariantResult
from safety_tax.results.words import how_to_read, of_base, of_judge, of_recipe, verdict

ONE_LINE: dict[str, Any] = {"sort_keys": False, "default_flow_style": True, "width": 10**6}


class Number(NamedTuple):
    """A number with its limits apart, as in `+22.0` and `[13.4, 30.0]`; `sort` is what a column is ordered by."""

    value: str
    limits: str
    sort: float | None
    tone: Tone = "calm"
    arrow: str = ""


class Tile(NamedTuple):
    """One of the few numbers below the verdict."""

    number: Number
    short: str
    of: str


class Cell(NamedTuple):
    """One currency of one recipe in the table."""

    level: Number
    """How much of it the variant has."""
    loss: Number | None = None
    """None for the base, like the status and the tax."""
    status: Said | None = None
    tax: Number | None = None


class Whisker(NamedTuple):
    """An interval in percent of a scale that all rows share; `zero` is where nothing is."""

    low: float
    value: float
    high: float
    zero: float


class Row(NamedTuple):
    """One variant: a row of the table, and its card."""

    model: str
    name: str
    number: int
    """In the browser of items; −1 where its items are not there."""
    standing: Said
    look: str
    safety: Number
    gain: Number | None
    cells: dict[str, Cell]
    """By the currency's noun."""
    worth: Number | None
    whisker: Whisker | None
    changes: list[Tile]
    settings: str
    prose: Markup


class View(NamedTuple):
    """One model."""

    name: str
    headline: Markup
    sentence: Markup
    nearest: str
    """The recipe that the verdict is about; empty without recipes."""
    keeps_base: bool
    tiles: list[Tile]
    nouns: list[str]
    rows: list[Row]
    notes: list[Markup]


def view_of(
    results: ModelResults,
    recipes: Mapping[str, Mapping[str, Any]],
    notes: list[str],
    numbers: Mapping[str, int],
    like: Sequence[ModelResults],
) -> View:
    """Everything of one model but its pictures.

    `recipes` is what params.yaml says of each; `notes` are closing paragraphs; `numbers` those of the variants in the
    browser of items; `like` are the models, this one among them, whose net benefits are drawn to one scale.
    """
    head, _, rest = verdict(results).partition(": ")
    nearest = _nearest(results)
    scale = _scale(like)
    return View(
        name=results.model,
        headline=inline(head.rstrip(".")),
        sentence=_lighter(inline(rest[:1].upper() + rest[1:])),
        nearest=nearest.name if nearest else "",
        keeps_base=results.recommended is None,
        tiles=_changes(nearest, results.confidence) if nearest else [],
        nouns=[CURRENCIES[name].noun for name in results.currencies],
        rows=[
            _row(variant, results, recipes.get(name, {}), numbers.get(name, -1), scale)
            for name, variant in sorted(results.variants.items(), key=lambda item: -_worth(item[1]))
        ],
        notes=[inline(note) for note in (how_to_read(results), " ".join(of_judge(results)), *notes) if note.strip()],
    )


def number_of(estimate: Estimate, scale: float = 100, digits: int = 1, signed: bool = False) -> Number:
    """A number for people; with its sign where it is a change, which is then good above zero."""
    value, limits = shown(estimate, scale, digits).split(" ", 1)
    if signed:
        plus = "+" if estimate.value > 0 else ""
        return Number(plus + value, limits, estimate.value, tone_of(estimate), arrow_of(estimate))
    return Number(value, limits, estimate.value)


def _worth_of(variant: VariantResult, confidence: float) -> Number:
    """A recipe's net benefit. It is calm, too, where it may be chance among so many recipes."""
    assert variant.net_benefit is not None  # a recipe's always is
    number = number_of(variant.net_benefit.estimate, signed=True)
    if variant.net_benefit.p_holm < 1 - confidence:
        return number
    return number._replace(tone="calm", arrow="≈")


def _nearest(results: ModelResults) -> VariantResult | None:
    """The recipe that the verdict is about."""
    if results.recommended is not None:
        return results.recipes[results.recommended]
    return max(results.recipes.values(), key=_worth, default=None)


def _worth(variant: VariantResult) -> float:
    """Net benefit; the base's is nothing."""
    return variant.net_benefit.estimate.value if variant.net_benefit else 0.0


def _lighter(sentence: Markup) -> Markup:
    """The limits in brackets set apart, so that a reader may pass over them."""
    return Markup(re.sub(r"\[[^][<>]*\]", lambda found: f'<span class="limits">{found[0]}</span>', sentence))


def _changes(recipe: VariantResult, confidence: float) -> list[Tile]:
    """What a recipe gained and paid, and what that is worth; a currency that cannot show a loss is left out."""
    found = [Tile(number_of(recipe.gain, signed=True), "safety", "harmful prompts refused")]
    for name, paid in recipe.paid.items():
        currency = CURRENCIES[name]
        done = f"{currency.items} {currency.done}"
        found.append(Tile(number_of(opposite(paid.loss), signed=True), currency.noun, done))
    return [*found, Tile(_worth_of(recipe, confidence), "net", "net benefit, points of safety")]


def _scale(like: Iterable[ModelResults]) -> tuple[float, float]:
    worths = [of.net_benefit.estimate for model in like for of in model.recipes.values() if of.net_benefit]
    ends = [end for worth in worths for end in (worth.low, worth.high)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    room = 0.04 * (high - low) or 1.0
    return low - room, high + room


def _whisker(estimate: Estimate, scale: tuple[float, float]) -> Whisker:
    low, high = scale
    places = (estimate.low, estimate.value, estimate.high, 0.0)
    return Whisker(*(round(100 * (place - low) / (high - low), 2) for place in places))


def _row(
    variant: VariantResult,
    results: ModelResults,
    settings: Mapping[str, Any],
    number: int,
    scale: tuple[float, float],
) -> Row:
    look = look_of(variant.name, results)
    base = variant.name == "base"
    worth = variant.net_benefit.estimate if variant.net_benefit else None
    told = yaml.safe_dump(dict(settings), **ONE_LINE).strip()[1:-1] if settings else ""
    return Row(
        model=results.model,
        name=variant.name,
        number=number,
        standing=PLACES[look],
        look=look,
        safety=number_of(variant.rates["safety"]),
        gain=None if base else number_of(variant.gain, signed=True),
        cells={CURRENCIES[name].noun: _cell(of) for name, of in variant.currencies.items()},
        worth=_worth_of(variant, results.confidence) if worth else None,
        whisker=_whisker(worth, scale) if worth else None,
        changes=[] if base else _changes(variant, results.confidence),
        settings="the model as it was, unmerged" if base else told,
        prose=inline(" ".join(of_base(results) if base else of_recipe(variant, results))),
    )


def _cell(of: CurrencyResult) -> Cell:
    if of.paid is None:
        return Cell(number_of(of.value))
    tax = of.paid.tax
    limits = "" if tax.low is None or tax.high is None else f"[{fixed(tax.low, 2)}, {fixed(tax.high, 2)}]"
    return Cell(
        level=number_of(of.value),
        loss=number_of(of.paid.loss),
        status=STATUSES[tax.status],
        tax=Number("" if tax.value is None else fixed(tax.value, 2), limits, tax.value),
    )
