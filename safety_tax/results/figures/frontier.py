"""The frontier: what each recipe gained in safety and what it paid, a panel a currency, with the base as the origin."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from safety_tax.core.currencies import CURRENCIES
from safety_tax.results.figures.canvas import INK, QUIET, RULE, Mark, cross, marks, point, sheet, shortened
from safety_tax.results.figures.run import Run
from safety_tax.results.iso_tax import TaxLine, lines_of_equal_tax, padded
from safety_tax.results.variant import ModelResults

ACROSS = 3.7  # inches of a panel, about
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
        price = results.price[currency]
        for line in lines_of_equal_tax(axes.get_xlim(), axes.get_ylim(), price, (ACROSS, up)):
            draw_line(axes, line, line.tax == price)
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
