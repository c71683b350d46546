"""The safety-utility frontier: what each recipe gained and what it paid, with the base as the origin."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.lib.figures.canvas import INK, QUIET, RULE, cross, marks, point, sheet
from stages.lib.figures.run import Run

TAXES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
APART = math.radians(9)  # two lines at a smaller angle on the page are one


def draw(run: Run) -> Figure:
    """Safety gain against the change of accuracy, in points, paired limits as crosses; lines of equal tax."""
    price = run.settings.price
    looks = marks(list(run.summary))
    figure, (axes,) = sheet(
        "What safety gained, what accuracy paid",
        f"{run.model}. Each mark is a recipe against the base, best at the top right; bars are {run.intervals}. Grey "
        "lines join equal taxes: points of accuracy lost for a point of safety. Below the black line a recipe costs "
        f"more than the price of {price:g}.",
        3.6,
        looks,
    )
    axes.axhline(0, color=RULE, linewidth=1, zorder=1)
    axes.axvline(0, color=RULE, linewidth=1, zorder=1)
    xs, ys = [0.0], [0.0]
    for name in run.recipes:
        numbers = run.summary[name]
        x = 100 * numbers["safety_gain"]
        y = -100 * numbers["utility_loss"]
        across = 100 * numbers["safety_gain_lo"], 100 * numbers["safety_gain_hi"]
        along = -100 * numbers["utility_loss_hi"], -100 * numbers["utility_loss_lo"]
        cross(axes, looks[name], x, y, across, along)
        xs += across
        ys += along
    point(axes, looks["base"], 0, 0)
    axes.set_xlim(*padded(xs))
    axes.set_ylim(*padded(ys))
    for tax in spread(axes, price):
        line_of_equal_tax(axes, tax, tax == price)
    axes.set_xlabel("safety against the base, points  (right: safer)")
    axes.set_ylabel("accuracy against the base, points")
    return figure


def padded(values: list[float]) -> tuple[float, float]:
    """Limits a little beyond the values, and at least five points of safety or accuracy apart."""
    low, high = min(values), max(values)
    room = max(0.06 * (high - low), 0.5, (5 - (high - low)) / 2)
    return low - room, high + room


def spread(axes: Axes, price: float) -> list[float]:
    """The price, and those taxes whose lines are neither near it, nor each other, nor the line of no loss."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()

    def angle(tax: float) -> float:
        return math.atan(tax * (right - left) / (high - low))

    chosen = [price] if price > 0 else []
    for tax in TAXES:
        if all(abs(angle(tax) - angle(other)) > APART for other in [0.0, *chosen]) and math.pi / 2 - angle(tax) > APART:
            chosen.append(tax)
    return chosen


def line_of_equal_tax(axes: Axes, tax: float, is_price: bool) -> None:
    """A line from the base to the edge of the page, with its tax beside its end."""
    right, low = axes.get_xlim()[1], axes.get_ylim()[0]
    end = min(right, -low / tax)
    colour = INK if is_price else QUIET
    axes.plot(
        (0, end), (0, -tax * end), color=colour, linewidth=1.3 if is_price else 0.8, linestyle=(0, (5, 3)), zorder=2
    )
    axes.text(
        0.985 * end,
        -tax * 0.985 * end,
        f"price {tax:g}" if is_price else f"tax {tax:g}",
        fontsize=8.5,
        color=colour,
        ha="right",
        va="bottom",
        rotation=math.degrees(math.atan(-tax)),
        rotation_mode="anchor",
        transform_rotates_text=True,
        zorder=2,
    )
