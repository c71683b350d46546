"""The report as one HTML file that loads nothing: styles, scripts, pictures and data are inside."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from safety_tax.core.currencies import CURRENCIES
from safety_tax.core.rows import KINDS, Kind, Prompt
from safety_tax.results.comparison.two_revisions import Report
from safety_tax.results.report.items import Browsed, item_index, text_chunks
from safety_tax.results.report.looks import PLACES, STATUSES
from safety_tax.results.report.moved import since
from safety_tax.results.report.picture import Picture, pictures
from safety_tax.results.report.vega import NOTICE, vega_script
from safety_tax.results.report.view import View, view_of
from safety_tax.results.variant import ModelResults

ASSETS = Path(__file__).parent / "assets"
STYLES = ("report.css", "table.css", "items.css", "print.css")
SCRIPTS = ("items.js", "table.js", "pictures.js")
ITEMS: dict[Kind, str] = {"harmful": "harmful prompts", "jailbreak": "jailbreak prompts"}
# Of currencies that share a kind, the first names it.
ITEMS |= {currency.kind: currency.items for currency in reversed(CURRENCIES.values())}

Asked = frozenset[tuple[Kind, str]]


class Measured(NamedTuple):
    """One model of the page."""

    results: ModelResults
    asked: Asked
    """Kind and id of each of its items."""
    recipes: Mapping[str, Mapping[str, Any]]
    """What params.yaml says of each."""
    notes: list[str]
    """Closing paragraphs: how it was asked, and what its donors were allowed."""
    figures: Mapping[str, bytes]
    """SVG by title."""
    before: ModelResults | None = None
    """Its results in an older revision."""

    @property
    def conditions(self) -> tuple[Any, ...]:
        """What two models must share for their numbers to be compared."""
        results = self.results
        return (self.asked, results.judge, results.confidence, results.margin, tuple(sorted(results.price.items())))


class Shown(NamedTuple):
    """One model, ready for the templates."""

    view: View
    pictures: list[Picture]
    figures: dict[str, str]
    """Base64 of SVG by title."""


class Group(NamedTuple):
    """Models that were asked the same items, by the same judge."""

    asked: str
    judge: str
    nouns: list[str]
    shown: list[Shown]
    readable: bool
    """Whether its items are in the browser."""


def embedded(value: Any) -> Markup:
    """JSON that may stand in a script element, whatever text it holds: no `<`, `>` or `&` is left in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def render(
    models: Sequence[Measured], prompts: Sequence[Prompt], browsed: Sequence[Browsed], moved: Report | None = None
) -> str:
    """The page of those `models`, at least one. `browsed` are the variants whose answers to `prompts` can be read.

    Its content security policy lets nothing be fetched and no script run but the page's own, by their hashes. Raises
    PipelineError as `item_index` and `text_chunks` do.
    """
    places = {(of.model, of.name, of.now): place for place, of in enumerate(browsed)}
    groups = _groups(models, places)
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [vega_script(), *map(_asset, SCRIPTS)]
    names = [model.results.model for model in models]
    first = groups[0].shown[0].view
    chosen = places.get((first.name, first.nearest, True), 0)
    return environment.get_template("report.html.jinja").render(
        title=", ".join(names),
        first=models[0].results,
        groups=groups,
        several=len(models) > 1,
        lower_bound=any(_is_lower_bound(model.results) for model in models),
        since=None if moved is None else since(moved, names, places),
        statuses=STATUSES.values(),
        places=PLACES,
        embedded=embedded,
        index=embedded(item_index(prompts, browsed) | {"chosen": chosen}) if browsed else "",
        chunks=[embedded(chunk) for chunk in text_chunks(prompts, browsed)] if browsed else [],
        style=Markup("\n".join(map(_asset, STYLES))),
        scripts=[Markup(script) for script in scripts],
        hashes=[base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts],
        notice=NOTICE,
    )


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _is_lower_bound(results: ModelResults) -> bool:
    """Whether jailbreak resistance was measured, by a judge that does not tell an evasive answer from a harmful one."""
    return not results.tells_harm and "jailbreak_resistance" in results.base.rates


def _groups(models: Sequence[Measured], places: Mapping[tuple[str, str, bool], int]) -> list[Group]:
    """The models by what they were measured with, in their order."""
    by_conditions: dict[tuple[Any, ...], list[Measured]] = {}
    for model in models:
        by_conditions.setdefault(model.conditions, []).append(model)
    return [_group(of, places, len(models) == 1) for of in by_conditions.values()]


def _group(models: Sequence[Measured], places: Mapping[tuple[str, str, bool], int], alone: bool) -> Group:
    like = [model.results for model in models]
    shown = []
    for model in models:
        results = model.results
        numbers = {name: place for (of, name, now), place in places.items() if of == results.model and now}
        shown.append(
            Shown(
                view_of(results, model.recipes, model.notes, numbers, like),
                pictures(results, like, numbers, model.before, alone),
                {title: base64.b64encode(content).decode() for title, content in model.figures.items()},
            )
        )
    nouns = dict.fromkeys(noun for of in shown for noun in of.view.nouns)
    first = models[0].results
    readable = (first.model, "base", True) in places
    return Group(_asked(models[0].asked), first.judge, list(nouns), shown, readable)


def _asked(asked: Asked) -> str:
    """`150 harmful prompts, 188 harmless prompts and 600 multiple-choice questions`"""
    counts = [(kind, sum(of == kind for of, _ in asked)) for kind in KINDS]
    said = [f"{count:,} {ITEMS[kind]}" for kind, count in counts if count]
    return f"{', '.join(said[:-1])} and {said[-1]}" if len(said) > 1 else "".join(said)
