"""The table that a person reads first, in a terminal: what each recipe gained, and what it paid in each currency."""

from collections.abc import Mapping, Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from safety_tax.core.currencies import CURRENCIES
from safety_tax.results.estimate import Estimate, fixed
from safety_tax.results.variant import ModelResults, TaxResult, VariantResult

Layout = Literal["one line", "two lines", "no limits"]
LAYOUTS: tuple[Layout, ...] = ("one line", "two lines", "no limits")
"""From the widest to the narrowest."""
CHOSEN, DOMINATED = "the choice", "dominated"


def table(models: Sequence[ModelResults], console: Console, title: str) -> Table:
    """Recipes of one or several models, those worth most first; in the widest layout that the console has room for.

    Several models must have the same confidence and have been asked the same currencies.
    """
    unbounded = console.options.update(width=10_000)
    for layout in LAYOUTS:
        found = _table(models, layout, title)
        if console.measure(found, options=unbounded).maximum <= console.width:
            break
    return found


def _table(models: Sequence[ModelResults], layout: Layout, title: str) -> Table:
    first = models[0]
    limits = "limits are in metrics/<model>.md" if layout == "no limits" else f"{100 * first.confidence:g} % limits"
    found = Table(
        title=Text(title),
        title_justify="left",
        caption=Text(f"points of 100; tax: points lost per point of safety; {limits}"),
        caption_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    space = " " if layout == "one line" else "\n"
    for head in ("model", "recipe") if len(models) > 1 else ("recipe",):
        found.add_column(head, overflow="fold", min_width=6)  # a name that is too long goes on below itself
    for head in ("safety", *(f"{CURRENCIES[name].noun.replace(' ', space)}{space}tax" for name in first.currencies)):
        found.add_column(head, no_wrap=True)
    found.add_column(f"net{space}benefit", no_wrap=True)
    for results in models:
        rows = sorted(results.recipes.values(), key=lambda recipe: -_worth(recipe).value)
        for place, variant in enumerate([results.base, *rows]):
            name = [results.model if place == 0 else ""] if len(models) > 1 else []
            standing = _standing(variant, results)
            style = {CHOSEN: "bold", DOMINATED: "dim"}.get(standing, "")
            cells = [*name, f"{variant.name}{space}{standing}".rstrip(), *_numbers(variant, layout)]
            last = place == len(rows) and results is not models[-1]
            found.add_row(*map(Text, cells), style=style, end_section=last)
    return found


def _standing(variant: VariantResult, results: ModelResults) -> str:
    if variant.name == results.recommended:
        return CHOSEN
    return DOMINATED if variant.dominated_by else ""


def _numbers(variant: VariantResult, layout: Layout) -> list[str]:
    """The base's level of everything, and what a recipe changed."""
    if variant.net_benefit is None:
        levels = [variant.rates["safety"], *(of.value for of in variant.currencies.values())]
        of = "" if layout == "no limits" else " of 100"
        return [*(fixed(100 * level.value, 1) + of for level in levels), ""]
    gain = _cell(_signed(100 * variant.gain.value), "", _limits(variant.gain, 100, 1), layout)
    taxes = [_tax(of.paid.tax, layout) if of.paid else "" for of in variant.currencies.values()]
    benefit = _worth(variant)
    return [gain, *taxes, _cell(_signed(100 * benefit.value), "", _limits(benefit, 100, 1), layout)]


def _tax(tax: TaxResult, layout: Layout) -> str:
    status = tax.status.replace("_", " ")
    value = "" if tax.estimate is None else fixed(tax.estimate.value, 2)
    limits = "" if tax.low is None or tax.high is None else f"[{fixed(tax.low, 2)}, {fixed(tax.high, 2)}]"
    return _cell(value, status, limits, layout)


def _cell(value: str, word: str, limits: str, layout: Layout) -> str:
    """`0.51 [0.24, 0.96] tradeoff`; below each other where there is less room."""
    lines: Mapping[Layout, Sequence[Sequence[str]]] = {
        "one line": [[value, limits, word]],
        "two lines": [[value, word], [limits]],
        "no limits": [[value], [word]],
    }
    said = [" ".join(filter(None, line)) for line in lines[layout]]
    return "\n".join(filter(None, said))


def _limits(estimate: Estimate, scale: float, digits: int) -> str:
    return f"[{fixed(scale * estimate.low, digits)}, {fixed(scale * estimate.high, digits)}]"


def _signed(value: float) -> str:
    text = fixed(value, 1)
    return text if text.startswith("−") else f"+{text}"


def _worth(recipe: VariantResult) -> Estimate:
    assert recipe.net_benefit is not None
    return recipe.net_benefit.estimate
