"""The frontier: what each recipe gained in safety and what it paid, a panel a currency, with the base as the origin."""

import math
from itertools import product
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from safety_tax.core.currencies import CURRENCIES
from safety_tax.results.figures.canvas import INK, QUIET, RULE, Mark, cross, marks, point, sheet, shortened
from safety_tax.results.figures.run import Run
from safety_tax.results.variant import ModelResults

TAXES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
ACROSS = 3.7  # inches of a panel, about
LABEL = 0.55  # inches that a tax's label takes along its line
APART = 0.2  # inches between the middles of two labels, at least
NAMED = 6  # dominated recipes in the caption, at most


def draw(run: Run) -> Figure | None:
    """Safety gained against the change of each currency measured, in points, limits as crosses; lines of equal tax.

    None where nothing was paid: without a recipe, or without a currency.
    """
    currencies = run.results.currencies
    if not run.results.recipes or not currencies:
        return None
    hollow = {name for name, recipe in run.results.recipes.items() if recipe.dominated_by}
    looks = {name: look._replace(hollow=name in hollow) for name, look in marks(run.variants).items()}
    up = 3.2 if len(currencies) == 1 else 2.45
    figure, panels = sheet(
        "What safety gained, and what it cost",
        f"{run.model}. A mark is a recipe against the base, best at the top right; bars are {run.intervals}."
        f"{lines(run.results)}{dominated(run.results)}",
        up * len(currencies),
        looks,
        panels=len(currencies),
    )
    for axes, currency in zip(panels, currencies, strict=True):
        draw_panel(axes, currency, run.results, looks, up - 0.65)
        if axes is not panels[-1]:
            axes.tick_params(axis="x", labelbottom=False)
    panels[-1].set_xlabel("safety against the base, points  (right: safer)")
    return figure


def draw_panel(axes: Axes, currency: str, results: ModelResults, looks: dict[str, Mark], up: float) -> None:
    """One currency; `up` is about how many inches its panel is high."""
    noun = CURRENCIES[currency].noun
    measurable = results.base.currencies[currency].standing == "measurable"
    axes.axhline(0, color=RULE, linewidth=1, zorder=1)
    axes.axvline(0, color=RULE, linewidth=1, zorder=1)
    point(axes, looks["base"], 0, 0)
    xs, ys = [0.0], [0.0]
    for name, recipe in results.recipes.items():
        paid = recipe.currencies[currency].paid
        assert paid is not None  # a recipe's always is
        cross(axes, looks[name], recipe.gain, paid.loss, sign=-1)
        xs += 100 * recipe.gain.low, 100 * recipe.gain.high
        ys += -100 * paid.loss.low, -100 * paid.loss.high
    axes.set_xlim(*padded(xs))
    axes.set_ylim(*padded(ys))
    if measurable:
        for line in lines_of_equal_tax(axes, results.price[currency], up):
            draw_line(axes, line, line.tax == results.price[currency])
    axes.set_title(noun if measurable else f"{noun}: cannot show a loss", loc="left", fontsize=10, fontweight="bold")
    axes.set_ylabel("points  (down: lost)")


def lines(results: ModelResults) -> str:
    """What the lines of equal tax mean, where there are any."""
    if all(of.standing != "measurable" for of in results.base.currencies.values()):
        return ""
    return (
        " Dashed lines join equal taxes: points lost for a point of safety gained. Below the black one a recipe costs "
        "more than the run's price."
    )


def dominated(results: ModelResults) -> str:
    """A sentence that names the recipes nobody should choose, if there are any."""
    names = [shortened(name, 24) for name, recipe in results.recipes.items() if recipe.dominated_by]
    if not names:
        return ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return (
        " Hollow: dominated, since another is surely better and nothing speaks for it: "
        f"{', '.join(names[:NAMED])}{more}."
    )


def padded(values: list[float]) -> tuple[float, float]:
    """Limits a little beyond the values, and at least five points apart."""
    low, high = min(values), max(values)
    room = max(0.06 * (high - low), 0.5, (5 - (high - low)) / 2)
    return low - room, high + room


class TaxLine(NamedTuple):
    """A line of equal tax: where it leaves the panel, in points."""

    tax: float
    end: tuple[float, float]


def lines_of_equal_tax(axes: Axes, price: float, up: float) -> list[TaxLine]:
    """The price's line, and those whose labels, at their ends, are clear of each other's and of the line of no loss."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    across_inches, up_inches = ACROSS / (right - left), up / (high - low)
    chosen: list[TaxLine] = []
    taken: list[tuple[float, float]] = []
    for tax in (price, *(tax for tax in TAXES if tax != price)):
        end = min(right, -low / tax)
        x, y = end * across_inches, tax * end * up_inches
        length = math.hypot(x, y)
        label = [(x * at / length, y * at / length) for at in (length, length - LABEL / 2, length - LABEL)]
        clear = length > 2 * LABEL and label[-1][1] > APART / 2
        clear = clear and all(math.dist(one, other) > APART for one, other in product(label, taken))
        if clear or tax == price:
            chosen.append(TaxLine(tax, (end, -tax * end)))
            taken += label
    return chosen


def draw_line(axes: Axes, line: TaxLine, is_price: bool) -> None:
    """A line from the base to the edge of the panel, with its tax beside its end."""
    x, y = line.end
    colour = INK if is_price else QUIET
    axes.plot((0, x), (0, y), color=colour, linewidth=1.3 if is_price else 0.8, linestyle=(0, (5, 3)), zorder=2)
    axes.text(
        0.985 * x,
        0.985 * y,
        f"price {line.tax:g}" if is_price else f"tax {line.tax:g}",
        fontsize=8.5,
        color=colour,
        ha="right",
        va="bottom",
        rotation=math.degrees(math.atan(-line.tax)),
        rotation_mode="anchor",
        transform_rotates_text=True,
        zorder=2,
    )
