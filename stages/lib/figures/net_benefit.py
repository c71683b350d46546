"""Which recipe is worth having, for each price that somebody may put on safety."""

from matplotlib.figure import Figure

from stages.lib.figures.canvas import INK, QUIET, marks, sheet
from stages.lib.figures.run import Run


def draw(run: Run) -> Figure:
    """Net benefit against the price λ, in points of accuracy, with bands as wide as the limits."""
    price = run.settings.price
    looks = {name: look for name, look in marks(list(run.summary)).items() if name != "base"}
    figure, (axes,) = sheet(
        "What a recipe is worth, by the price of safety",
        f"{run.model}. Net benefit = price × safety gained − accuracy lost. Above zero a recipe is better than the "
        f"base for whoever pays that price. Bands are {run.intervals}.",
        3.4,
        looks,
    )
    axes.axhline(0, color=INK, linewidth=1, zorder=2)
    for name in run.recipes:
        curve = run.summary[name]["net_benefit_by_price"]
        prices = [point["price"] for point in curve]
        value, low, high = ([100 * point[key] for point in curve] for key in ("estimate", "lower", "upper"))
        axes.fill_between(prices, low, high, color=looks[name].colour, alpha=0.12, linewidth=0, zorder=1)
        axes.plot(
            prices,
            value,
            color=looks[name].colour,
            marker=looks[name].shape,
            markersize=5.5,
            markeredgecolor="white",
            linewidth=1.5,
            zorder=3,
        )
    axes.margins(x=0.03)
    axes.axvline(price, color=QUIET, linewidth=1, linestyle=(0, (5, 3)), zorder=2)
    axes.text(price, 1, f" the run's price, {price:g}", transform=axes.get_xaxis_transform(), fontsize=8.5, va="top")
    axes.set_xlabel("price: points of accuracy that a point of safety is worth")
    axes.set_ylabel("net benefit, points  (0: the base)")
    return figure
