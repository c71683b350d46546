"""Which recipe is worth having, for whoever prices what was lost higher or lower than the run does."""

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from safety_tax.core.currencies import CURRENCIES
from safety_tax.results.figures.canvas import INK, QUIET, marks, sheet
from safety_tax.results.figures.run import Run
from safety_tax.results.variant import ModelResults

TICKS = (0.25, 0.5, 1, 2, 4)
LOWEST = -100.0  # points, as if all safety were lost; low prices would push what is near zero together


def draw(run: Run) -> Figure | None:
    """Net benefit in points of safety against a multiple of all prices, with bands as wide as the limits.

    None without a recipe.
    """
    curves = {name: of.net_benefit.by_scale for name, of in run.results.recipes.items() if of.net_benefit}
    if not curves:
        return None
    lowest = 100 * min(point.low for curve in curves.values() for point in curve)
    cut = " What lies below −100 is not shown." if lowest < LOWEST else ""
    looks = {name: look for name, look in marks(run.variants).items() if name in curves}
    figure, (axes,) = sheet(
        "What a recipe is worth, by the prices",
        f"{run.model}. Net benefit = safety gained − each loss / its price{priced(run.results)}. Above zero a recipe "
        "is better than the base. Left: a point of safety is worth less of everything, so losses weigh more. Bands are "
        f"{run.intervals}.{cut}{left_out(run.results)}",
        3.4,
        looks,
    )
    axes.axhline(0, color=INK, linewidth=1, zorder=2)
    for name, curve in curves.items():
        scales = [point.scale for point in curve]
        low, high = [100 * point.low for point in curve], [100 * point.high for point in curve]
        axes.fill_between(scales, low, high, color=looks[name].colour, alpha=0.12, linewidth=0, zorder=1)
        axes.plot(
            scales,
            [100 * point.value for point in curve],
            color=looks[name].colour,
            marker=looks[name].shape,
            markersize=5.5,
            markeredgecolor="white",
            linewidth=1.5,
            zorder=3,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda scale, _: f"× {scale:g}"))
    axes.margins(x=0.03)
    if cut:
        axes.set_ylim(bottom=LOWEST)
    axes.axvline(1, color=QUIET, linewidth=1, linestyle=(0, (5, 3)), zorder=2)
    axes.text(1, 1.01, "the run's prices", transform=axes.get_xaxis_transform(), fontsize=8.5, ha="center", va="bottom")
    axes.set_xlabel("multiple of all prices")
    axes.set_ylabel("net benefit, points of safety")
    return figure


def priced(results: ModelResults) -> str:
    """` (helpfulness 1, accuracy 0.25)`: the prices that count."""
    said = [
        f"{CURRENCIES[name].noun} {results.price[name]:g}"
        for name, of in results.base.currencies.items()
        if of.standing == "measurable"
    ]
    return f" ({', '.join(said)})" if said else ""


def left_out(results: ModelResults) -> str:
    """A sentence on the currencies that do not count, if there are any."""
    said = [CURRENCIES[name].noun for name, of in results.base.currencies.items() if of.standing != "measurable"]
    return f" Left out, since it cannot show a loss: {', '.join(said)}." if said else ""
